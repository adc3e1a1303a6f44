-- A device asks to enter the book.
-- given: address (absent: the user must exist), fp, claim, name, kind, place, most, seconds
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
if state == 'revoked' or denied(rid) then return unchanged('denied') end

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
redis.call('HSET', key('request', rid), 'fp', fp, 'claim', claim, 'name', given.name, 'kind', given.kind,
  'place', given.place, 'asked_on', now)
redis.call('EXPIRE', key('request', rid), given.seconds)
redis.call('ZADD', key('requests'), now, rid)
return changed('asked', {}, touched)
