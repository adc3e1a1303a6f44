-- A device asks to enter the book.
-- given: address (absent: the user must exist), fp, claim, name, kind, place, invite (a digest, absent: none),
--        most requests (0: nobody may ask), most_near (of them from one place, 0: any number), seconds they stay open,
--        waiter (the connection that waits for the answer, absent: none), live (seconds it may wait), most_peers
local fp, claim = given.fp, given.claim
local rid = request_id(fp, claim)
if given.address then
  enroll(given.address, given.seconds)
elseif redis.call('EXISTS', KEYS[1]) == 0 then
  return unchanged('unknown')
end

local state, was = peer_field(fp, 'state'), peer_field(fp, 'claim')
-- A secret that the owner has not answered is a new question. Any other claim is for the peer to prove.
local new_secret = strength(claim) == 1 and was ~= claim and was ~= 'certificate'
if state == 'verified' and not new_secret then return unchanged('verified') end
if state == 'added' then
  -- It binds its claim when it proves it; one that will prove nothing is in.
  if claim ~= 'none' then return unchanged('verified') end
  return changed('verified', {fp}, verify_added(fp, claim))
end
local place_left = state or redis.call('ZCARD', key('book')) < given.most_peers
if given.invite and not state and place_left and take_invite(given.invite) then
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

-- While a connection waits for the answer, its request gives way to no other.
local function wait_for_it()
  if given.waiter then
    redis.call('HSET', key('request', rid), 'waiter', given.waiter, 'live', now + given.live)
  end
end

-- The oldest of those requests that nobody waits for.
local function idle(rids)
  for _, each in ipairs(rids) do
    if tonumber(redis.call('HGET', key('request', each), 'live') or 0) <= now then return each end
  end
end

rid = request_of(fp, claim)
if redis.call('EXISTS', key('request', rid)) == 1 then
  redis.call('EXPIRE', key('request', rid), given.seconds)
  wait_for_it()
  return unchanged('asked')
end
local touched = {rid}
local open, near = open_requests(), {}
for _, each in ipairs(open) do
  if redis.call('HGET', key('request', each), 'place') == given.place then near[#near + 1] = each end
end
local crowd = given.most_near > 0 and #near >= given.most_near and near or #open >= given.most and open
if crowd then
  local oldest = idle(crowd)
  if not oldest then return unchanged('full') end
  drop_request(oldest)
  touched[2] = oldest
end
redis.call('HDEL', key('denied'), rid)
redis.call('HSET', key('request', rid), 'fp', fp, 'claim', claim, 'name', given.name.text, 'kind', given.kind,
  'place', given.place, 'asked_on', now)
redis.call('EXPIRE', key('request', rid), given.seconds)
redis.call('ZADD', key('requests'), string.format('%d.%06d', now, time[2]), rid)
wait_for_it()
happened('asked', given.name.text, given.place)
return changed('asked', {}, touched)
