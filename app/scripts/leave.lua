-- A connection ended. Only the one that the peer is online with takes it offline.
-- given: fp, process, connection
local place = redis.call('HGET', key('online'), given.fp)
local mine = given.process .. ' ' .. given.connection .. ' '
if not place or string.sub(place, 1, #mine) ~= mine then return unchanged('elsewhere') end
redis.call('HDEL', key('online'), given.fp)
redis.call('HSET', key('peer', given.fp), 'last_seen', now)
return changed('left', {given.fp}, {})
