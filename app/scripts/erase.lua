-- The owner deletes the account: everything of this user goes. The answer still tells what there was.
if redis.call('EXISTS', KEYS[1]) == 0 then return unchanged('unknown') end
local fps = redis.call('ZRANGE', key('book'), 0, -1)
local rids = open_requests()
local version = redis.call('INCR', key('version'))
local interested, user = redis.call('SMEMBERS', key('interest')), redis.call('HGETALL', KEYS[1])
for _, fp in ipairs(fps) do redis.call('DEL', key('peer', fp)) end
for _, rid in ipairs(rids) do redis.call('DEL', key('request', rid)) end
for _, noun in ipairs(NOUNS) do redis.call('DEL', key(noun)) end
for _, window in ipairs(WINDOWS) do redis.call('DEL', key('limit', window)) end
redis.call('DEL', KEYS[1])
return {'erased', version, interested, user, peer_rows(fps), request_rows(rids)}
