-- A browser asks for a login mail, and may type a code from now on. The keys are those of the browser, not of a user.
-- What it is told of wrong codes starts anew. A code that it has stays good where it asks for the same address again.
-- given: address (a digest), seconds
if redis.call('HGET', key('code'), 'address') ~= given.address then
  redis.call('DEL', key('code'))
  redis.call('HSET', key('code'), 'address', given.address)
end
redis.call('HSET', key('code'), 'tries', 0)
redis.call('EXPIRE', key('code'), given.seconds)
return unchanged('expected')
