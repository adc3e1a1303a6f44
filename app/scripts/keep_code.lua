-- A browser asked for a login mail, and may type its code from now on. The keys are those of the browser, not of a user.
-- What it is told of wrong codes starts anew with each ask. A code stays where the same address is asked for again and no
-- other mail goes out; in any other case it is forgotten, whether or not there is a new one, so nothing shows.
-- given: address (a digest), seconds; and where a mail goes out: uid, link and code (digests)
if given.code or redis.call('HGET', key('code'), 'address') ~= given.address then
  redis.call('DEL', key('code'))
  redis.call('HSET', key('code'), 'address', given.address, 'used', 0)
  if given.code then redis.call('HSET', key('code'), 'uid', given.uid, 'link', given.link, 'code', given.code) end
end
redis.call('HSET', key('code'), 'tries', 0)
redis.call('EXPIRE', key('code'), given.seconds)
return unchanged('kept')
