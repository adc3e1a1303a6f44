-- A book as an export holds it, in the place of whatever this user has now. Who is online stays so where the peer does.
-- given: address, created_on, generation, require_proof, peers (fp, name, fold, kind, state, claim, proved, created_on,
--        verified_on, last_seen), denied (pairs of rid and until), activity (lines, newest first)
local before, after, touched = redis.call('ZRANGE', key('book'), 0, -1), {}, {}
local rids = open_requests()
for _, rid in ipairs(rids) do drop_request(rid) end
for _, rid in ipairs(redis.call('HKEYS', key('denied'))) do rids[#rids + 1] = rid end
for _, fp in ipairs(before) do redis.call('DEL', key('peer', fp)) end
for _, noun in ipairs({'book', 'denied', 'activity', 'invites'}) do redis.call('DEL', key(noun)) end

-- Sessions and links that there are now open a book that is gone, so they are void.
local was, admissions = unpack(redis.call('HMGET', KEYS[1], 'generation', 'admissions'))
local generation = was and math.max(tonumber(was), given.generation) + 1 or given.generation
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'email', given.address, 'created_on', given.created_on, 'generation', generation)
if admissions then redis.call('HSET', KEYS[1], 'admissions', admissions) end
if given.require_proof then redis.call('HSET', KEYS[1], 'require_proof', '1') end

for _, peer in ipairs(given.peers) do
  local fp = peer.fp
  after[fp] = true
  touched[#touched + 1] = fp
  redis.call('ZADD', key('book'), peer.created_on, fp)
  set_name(fp, peer.name, peer.fold)
  redis.call('HSET', key('peer', fp), 'kind', peer.kind, 'state', peer.state, 'claim', peer.claim,
    'created_on', peer.created_on, 'verified_on', peer.verified_on, 'last_seen', peer.last_seen)
  if peer.proved then redis.call('HSET', key('peer', fp), 'proved', '1') end
  if peer.state ~= 'verified' then redis.call('HDEL', key('online'), fp) end
end
for _, fp in ipairs(before) do
  if not after[fp] then
    redis.call('HDEL', key('online'), fp)
    touched[#touched + 1] = fp
  end
end
for _, each in ipairs(given.denied) do
  redis.call('HSET', key('denied'), each[1], each[2])
  rids[#rids + 1] = each[1]
end
for _, line in ipairs(given.activity) do redis.call('RPUSH', key('activity'), line) end
redis.call('LTRIM', key('activity'), 0, 199)
for _, noun in ipairs(NOUNS) do redis.call('PERSIST', key(noun)) end
return changed('restored', touched, rids)
