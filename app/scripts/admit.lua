-- A connection of a peer is let in and becomes the one place where that peer is online: the newest admitted wins.
-- given: fp, claim (none, or the one that the connection has proved), named (whether it names this user), demanded
--        (whether the server demands proof), process, connection, again (whether it was here all the time, so that it
--        displaces nobody)
local fp, claim, rids = given.fp, given.claim, {}
local proved = claim ~= 'none'
local mine = given.process .. ' ' .. given.connection .. ' '
local place = given.again and redis.call('HGET', key('online'), fp)
if place and string.sub(place, 1, #mine) ~= mine then return unchanged('elsewhere') end
local state, was = peer_field(fp, 'state'), peer_field(fp, 'claim')
if not proved and (given.demanded or redis.call('HGET', KEYS[1], 'require_proof') == '1') then return unchanged('out') end
local outcome = 'in'
if state == 'added' then
  rids = verify_added(fp, claim)
elseif state == 'verified' and was ~= claim and claim == 'certificate' and given.named then
  -- The key of the certificate that the owner has approved by its fingerprint: that is the peer itself.
  redis.call('HSET', key('peer', fp), 'claim', claim)
  rids = drop_requests_of(fp)
  happened('proof changed', peer_field(fp, 'name'))
  outcome = 'proof changed'
elseif state ~= 'verified' or was ~= claim then
  return unchanged('out')
end
if proved and given.named then redis.call('HSET', key('peer', fp), 'proved', '1') end
redis.call('SADD', key('interest'), given.process) -- it may have been taken for dead, and does hold this book
local number = redis.call('HINCRBY', KEYS[1], 'admissions', 1)
redis.call('HSET', key('online'), fp, mine .. number)
redis.call('HSET', key('peer', fp), 'last_seen', now)
return changed(outcome, {fp}, rids)
