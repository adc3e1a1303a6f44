-- A mail goes out: the browser that asked for it may type this code, in the place of any before. Its tries stay counted
-- as they are, so that it can't tell when, and whether, this happened.
-- given: address, link, code (digests), uid
if redis.call('HGET', key('code'), 'address') ~= given.address then return unchanged('elsewhere') end
redis.call('HSET', key('code'), 'uid', given.uid, 'link', given.link, 'code', given.code, 'used', 0)
return unchanged('kept')
