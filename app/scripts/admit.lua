-- A connection of a peer is let in and becomes the one place where that peer is online: the newest admitted wins.
-- given: fp, claim (none, or the one that the connection has proved), named (whether it names this user), demanded
--        (whether the server demands proof), process, connection
local fp, claim, rids = given.fp, given.claim, {}
local proved = claim ~= 'none'
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
local number = redis.call('HINCRBY', KEYS[1], 'admissions', 1)
redis.call('HSET', key('online'), fp, given.process .. ' ' .. given.connection .. ' ' .. number)
redis.call('HSET', key('peer', fp), 'last_seen', now)
return changed(outcome, {fp}, rids)
