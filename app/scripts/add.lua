-- The owner enters a device ahead: it is in from the moment that it is seen.
-- given: fp, name, kind, most
if redis.call('EXISTS', KEYS[1]) == 0 then return unchanged('unknown') end
local fp = given.fp
if peer_field(fp, 'state') then return unchanged('known') end
if redis.call('ZCARD', key('book')) >= given.most then return unchanged('full') end
if name_taken(given.name.fold) then return unchanged('taken') end
add_peer(fp, given.name.text, given.name.fold, given.kind)
happened('added', given.name.text)
return changed('added', {fp}, {})
