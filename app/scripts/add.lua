-- The owner enters a device ahead: it is in from the moment that it is seen.
-- given: fp, name, kind, most
local fp = given.fp
if peer_field(fp, 'state') then return unchanged('known') end
if redis.call('ZCARD', key('book')) >= given.most then return unchanged('full') end
if name_taken(given.name.fold) then return unchanged('taken') end
redis.call('ZADD', key('book'), now, fp)
redis.call('HSET', key('peer', fp), 'name', given.name.text, 'fold', given.name.fold, 'kind', given.kind,
  'state', 'added', 'claim', 'none', 'created_on', now, 'verified_on', 0, 'last_seen', 0)
return changed('added', {fp}, {})
