-- Shuts a peer out until its owner approves or removes it.
-- given: fp
if not peer_field(given.fp, 'state') then return unchanged('unknown') end
redis.call('HSET', key('peer', given.fp), 'state', 'revoked')
redis.call('HDEL', key('online'), given.fp)
happened('revoked', peer_field(given.fp, 'name'))
return changed('revoked', {given.fp}, drop_requests_of(given.fp))
