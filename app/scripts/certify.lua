-- A device that waits has shown its certificate: its request is one of claim certificate from now on.
-- given: fp, claim (that it asked with)
local old, new = request_id(given.fp, given.claim), request_id(given.fp, 'certificate')
if old == new or redis.call('EXISTS', key('request', old)) == 0 then return unchanged('nothing') end
if denied(new) then
  drop_request(old)
else
  redis.call('RENAME', key('request', old), key('request', new))
  redis.call('HSET', key('request', new), 'claim', 'certificate')
  redis.call('HSETNX', key('request', new), 'asked_as', given.claim)
  redis.call('ZADD', key('requests'), redis.call('ZSCORE', key('requests'), old), new)
  redis.call('ZREM', key('requests'), old)
end
return changed('certified', {}, {old, new})
