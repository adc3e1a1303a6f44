-- A connection of a peer is let in and becomes the one place where that peer is online: the newest admitted wins.
-- given: fp, claim, process, connection, proved (whether the connection proved its claim)
local fp, rids = given.fp, {}
local state = peer_field(fp, 'state')
if redis.call('HGET', KEYS[1], 'require_proof') == '1' and not given.proved then return unchanged('out') end
if state == 'added' then
  rids = verify_added(fp, given.claim)
elseif state ~= 'verified' or peer_field(fp, 'claim') ~= given.claim then
  return unchanged('out')
end
local number = redis.call('HINCRBY', KEYS[1], 'admissions', 1)
redis.call('HSET', key('online'), fp, given.process .. ' ' .. given.connection .. ' ' .. number)
redis.call('HSET', key('peer', fp), 'last_seen', now)
return changed('in', {fp}, rids)
