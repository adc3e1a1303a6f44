-- A connection does not wait for the answer to its request any more.
-- given: fp, claim, waiter
local rid = request_of(given.fp, given.claim)
if redis.call('HGET', key('request', rid), 'waiter') == given.waiter then
  redis.call('HDEL', key('request', rid), 'waiter', 'live')
end
return unchanged('done')
