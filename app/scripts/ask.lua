-- A device asks to enter the book.
-- given: address (absent: the user must exist), fp, claim, name, kind, place, invite (a digest, absent: none),
--        most requests (0: nobody may ask), seconds they stay open, most_peers
local fp, claim = given.fp, given.claim
local rid = request_id(fp, claim)
if given.address then
  enroll(given.address, given.seconds)
elseif redis.call('EXISTS', KEYS[1]) == 0 then
  return unchanged('unknown')
end

local state = peer_field(fp, 'state')
if state == 'verified' and peer_field(fp, 'claim') == claim then return unchanged('verified') end
if state == 'added' then return changed('verified', {fp}, verify_added(fp, claim)) end
local place_left = state or redis.call('ZCARD', key('book')) < given.most_peers
if given.invite and state ~= 'revoked' and place_left and take_invite(given.invite) then
  local text, fold = free_name(given.name, fp)
  local rids = drop_requests_of(fp)
  rids[#rids + 1] = rid
  redis.call('HDEL', key('denied'), rid)
  enter_peer(fp, text, fold, given.kind, claim, now)
  happened('invited', text, given.place)
  return changed('invited', {fp}, rids)
end
if state == 'revoked' or denied(rid) then return unchanged('denied') end
if given.most == 0 then return unchanged('unasked') end

if redis.call('EXISTS', key('request', rid)) == 1 then
  redis.call('EXPIRE', key('request', rid), given.seconds)
  return unchanged('asked')
end
local touched = {rid}
local open = open_requests()
if #open >= given.most then
  drop_request(open[1])
  touched[2] = open[1]
end
redis.call('HDEL', key('denied'), rid)
redis.call('HSET', key('request', rid), 'fp', fp, 'claim', claim, 'name', given.name.text, 'kind', given.kind,
  'place', given.place, 'asked_on', now)
redis.call('EXPIRE', key('request', rid), given.seconds)
redis.call('ZADD', key('requests'), now, rid)
happened('asked', given.name.text, given.place)
return changed('asked', {}, touched)
