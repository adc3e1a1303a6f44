-- A connection does not wait for the answer to its request any more.
-- given: rid, waiter
if redis.call('HGET', key('request', given.rid), 'waiter') == given.waiter then
  redis.call('HDEL', key('request', given.rid), 'waiter', 'live')
end
return unchanged('done')
