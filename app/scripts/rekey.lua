-- A peer that has proved itself takes another fingerprint. It keeps its name and history; the old one is shut out.
-- given: fp, to, claim, proved (whether the new claim was proved at once), seconds the old one stays denied
local fp, to = given.fp, given.to
if peer_field(fp, 'state') ~= 'verified' then return unchanged('unknown') end
if peer_field(to, 'state') then return unchanged('known') end
if strength(given.claim) < strength(peer_field(fp, 'claim')) then return unchanged('weaker') end
local name, kind, created_on, last_seen, outcome = unpack(
  redis.call('HMGET', key('peer', fp), 'name', 'kind', 'created_on', 'last_seen', 'outcome'))
local fold = peer_fold(fp)
local old = request_id(fp, peer_field(fp, 'claim'))
local rids = drop_requests_of(to)
for _, rid in ipairs(drop_requests_of(fp)) do rids[#rids + 1] = rid end
rids[#rids + 1] = old
rids[#rids + 1] = request_id(to, given.claim)
remove_peer(fp)
deny(old, given.seconds)
redis.call('HDEL', key('denied'), request_id(to, given.claim))
redis.call('HSET', key('peer', to), 'last_seen', last_seen)
if outcome then redis.call('HSET', key('peer', to), 'outcome', outcome) end
enter_peer(to, name, fold, kind, given.claim, created_on)
-- A claim that was only named proves nothing: it may be another's device, which must not be found in this book.
if given.proved then redis.call('HSET', key('peer', to), 'proved', '1') end
happened('rekeyed', name)
return changed('rekeyed', {fp, to}, rids)
