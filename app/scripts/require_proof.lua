-- The owner demands proof from all devices of the book, or does not any more.
-- given: on
if redis.call('EXISTS', KEYS[1]) == 0 then return unchanged('unknown') end
redis.call('HSET', KEYS[1], 'require_proof', given.on and '1' or '0')
happened(given.on and 'proof demanded' or 'proof not demanded')
return changed('required', redis.call('ZRANGE', key('book'), 0, -1), {})
