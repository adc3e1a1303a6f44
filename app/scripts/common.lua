-- Stands in front of every script. One script touches the keys of one user only: KEYS[1] is user:{uid}, and all
-- others are made from the same uid, so they share its hash tag and a cluster keeps them in one slot.
-- ARGV[1] is the uid (or the name of something else that keys are kept for: a browser, the server), ARGV[2] a JSON object with what else the script needs, named in its first lines.
local uid = ARGV[1]
local given = cjson.decode(ARGV[2])
-- What a user has beside the hash of their own, and beside the hashes of peers and requests.
local NOUNS = {'version', 'book', 'requests', 'denied', 'online', 'interest', 'activity', 'invites', 'browsers', 'secrets'}
-- The windows in which a user's turns are counted.
local WINDOWS = {'login:interval', 'login:hour', 'login:day', 'request:interval', 'request:hour', 'request:day', 'code:day'}
local time = redis.call('TIME')
local now = tonumber(time[1])

local function key(noun, rest)
  if rest then return noun .. ':{' .. uid .. '}:' .. rest end
  return noun .. ':{' .. uid .. '}'
end

local function peer_field(fp, field) return redis.call('HGET', key('peer', fp), field) end

-- A request's hash ends by itself; its place in the list is taken away here.
local function open_requests()
  local open = {}
  for _, rid in ipairs(redis.call('ZRANGE', key('requests'), 0, -1)) do
    if redis.call('EXISTS', key('request', rid)) == 1 then
      open[#open + 1] = rid
    else
      redis.call('ZREM', key('requests'), rid)
    end
  end
  return open
end

-- The same as request_id in peers.py.
local function request_id(fp, claim) return string.sub(redis.sha1hex(fp .. ' ' .. claim), 1, 24) end

-- The request by which a device asks that names this claim: its certificate may have turned it into another.
local function request_of(fp, claim)
  local certified = request_id(fp, 'certificate')
  if redis.call('HGET', key('request', certified), 'asked_as') == claim then return certified end
  return request_id(fp, claim)
end

local function drop_request(rid)
  redis.call('DEL', key('request', rid))
  redis.call('ZREM', key('requests'), rid)
end

-- The same as strength in claims.py.
local function strength(claim)
  if claim == 'none' then return 0 end
  return claim == 'certificate' and 2 or 1
end

-- Drops every open request of the fingerprint, or those whose claim is weaker than `claim`, and returns their ids.
local function drop_requests_of(fp, claim)
  local dropped = {}
  for _, rid in ipairs(open_requests()) do
    local of, by = unpack(redis.call('HMGET', key('request', rid), 'fp', 'claim'))
    if of == fp and (not claim or strength(by) < strength(claim)) then
      drop_request(rid)
      dropped[#dropped + 1] = rid
    end
  end
  return dropped
end

-- Puts a member that ends after so many seconds into a hash (member -> when it ends) that holds so many at the most:
-- those that are over go, and then the first to end makes place.
local function keep_until(noun, member, seconds, most)
  local first, first_ends
  local count, rows = 0, redis.call('HGETALL', key(noun))
  for i = 1, #rows, 2 do
    local each, ends = rows[i], tonumber(rows[i + 1])
    if ends <= now then
      redis.call('HDEL', key(noun), each)
    elseif each ~= member then
      count = count + 1
      if not first_ends or ends < first_ends then first, first_ends = each, ends end
    end
  end
  if count >= most then redis.call('HDEL', key(noun), first) end
  redis.call('HSET', key(noun), member, now + seconds)
end

-- Remembers for so many seconds that the device of this request is not wanted.
local function deny(rid, seconds) keep_until('denied', rid, seconds, 100) end

local function denied(rid)
  local ends = redis.call('HGET', key('denied'), rid)
  return ends and tonumber(ends) > now
end

local function remove_peer(fp)
  redis.call('DEL', key('peer', fp))
  redis.call('ZREM', key('book'), fp)
  redis.call('HDEL', key('online'), fp)
end

-- Most folded names are the name in lower case, and then they are not kept.
local function set_name(fp, name, fold)
  redis.call('HSET', key('peer', fp), 'name', name)
  if fold == string.lower(name) then
    redis.call('HDEL', key('peer', fp), 'fold')
  else
    redis.call('HSET', key('peer', fp), 'fold', fold)
  end
end

local function peer_fold(fp) return peer_field(fp, 'fold') or string.lower(peer_field(fp, 'name')) end

-- Names are one for a person when their folded forms are: another peer's name can't be taken.
local function name_taken(fold, except)
  for _, fp in ipairs(redis.call('ZRANGE', key('book'), 0, -1)) do
    if fp ~= except and peer_fold(fp) == fold then return true end
  end
  return false
end

-- The name, or the first of "stem 2", "stem 3", … that is free. A name comes as {text, fold, stem, stem_fold}:
-- the stem leaves place for the number.
local function free_name(name, except)
  local text, fold, n = name.text, name.fold, 1
  while name_taken(fold, except) do
    n = n + 1
    text, fold = name.stem .. ' ' .. n, name.stem_fold .. ' ' .. n
  end
  return text, fold
end

-- One line of the activity that the owner's page shows: what happened, to which device, and a detail.
local function happened(what, name, detail)
  redis.call('LPUSH', key('activity'), cjson.encode({now, what, name or '', detail or ''}))
  redis.call('LTRIM', key('activity'), 0, 199)
end

local function peer_rows(fps)
  local rows = {}
  for _, fp in ipairs(fps) do
    rows[#rows + 1] = {fp, redis.call('HGETALL', key('peer', fp)), redis.call('HGET', key('online'), fp) or ''}
  end
  return rows
end

local function request_rows(rids)
  local rows = {}
  for _, rid in ipairs(rids) do
    rows[#rows + 1] = {rid, redis.call('HGETALL', key('request', rid)), redis.call('HGET', key('denied'), rid) or ''}
  end
  return rows
end

-- What a user made by a stranger's ask leaves in the store ends with that user.
local function end_with_user()
  local ttl = redis.call('TTL', KEYS[1])
  if ttl < 0 then return end
  for _, noun in ipairs(NOUNS) do
    redis.call('EXPIRE', key(noun), ttl)
  end
end

local function answer(outcome, version, fps, rids)
  return {outcome, version, redis.call('SMEMBERS', key('interest')), redis.call('HGETALL', KEYS[1]), peer_rows(fps), request_rows(rids)}
end

-- A counter that is new, or that the store lost, starts at the clock, so it never repeats a version that somebody holds.
local function begin_version()
  if redis.call('EXISTS', key('version')) == 0 then redis.call('SET', key('version'), now * 1000) end
end

-- Ends every script that changed something: one version up, and the new rows of all that it touched.
local function changed(outcome, fps, rids)
  begin_version()
  local version = redis.call('INCR', key('version'))
  end_with_user()
  return answer(outcome, version, fps, rids)
end

local function unchanged(outcome) return {outcome} end

-- Makes the user if there is none. One that a stranger's ask made ends by itself unless its owner comes.
local function enroll(address, seconds)
  if redis.call('EXISTS', KEYS[1]) == 0 then
    redis.call('HSET', KEYS[1], 'email', address, 'created_on', now, 'generation', 1)
    redis.call('EXPIRE', KEYS[1], seconds)
  elseif redis.call('TTL', KEYS[1]) >= 0 then
    redis.call('EXPIRE', KEYS[1], seconds)
  end
end

-- Takes an invite, if it is good: it is gone with the first device that brings it.
local function take_invite(digest)
  local ends = redis.call('HGET', key('invites'), digest)
  if not ends then return false end
  redis.call('HDEL', key('invites'), digest)
  return tonumber(ends) > now
end

-- The peer is in: a new one, or one that changes its claim.
local function enter_peer(fp, name, fold, kind, claim, created_on)
  if peer_field(fp, 'claim') ~= claim then redis.call('HDEL', key('peer', fp), 'proved') end
  redis.call('ZADD', key('book'), created_on, fp)
  set_name(fp, name, fold)
  redis.call('HSET', key('peer', fp), 'kind', kind, 'state', 'verified', 'claim', claim,
    'created_on', created_on, 'verified_on', now)
  redis.call('HSETNX', key('peer', fp), 'last_seen', 0)
end

-- The peer is entered ahead.
local function add_peer(fp, name, fold, kind)
  redis.call('ZADD', key('book'), now, fp)
  set_name(fp, name, fold)
  redis.call('HSET', key('peer', fp), 'kind', kind, 'state', 'added', 'claim', 'none',
    'created_on', now, 'verified_on', 0, 'last_seen', 0)
end

-- A device that was entered ahead is in from the moment that it is seen.
local function verify_added(fp, claim)
  redis.call('HSET', key('peer', fp), 'state', 'verified', 'claim', claim, 'verified_on', now)
  return drop_requests_of(fp)
end
