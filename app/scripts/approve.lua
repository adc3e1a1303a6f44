-- The owner lets a device in: one that asked, or one that was revoked.
-- given: fp, rid (absent: the fingerprint's oldest request), name (absent: as the device calls itself, or the next
--        free name), replaces (absent: nobody), most
local fp, rid, replaces = given.fp, given.rid, given.replaces
if not rid then
  for _, each in ipairs(open_requests()) do
    if redis.call('HGET', key('request', each), 'fp') == fp then rid = each break end
  end
end
local asked = rid and redis.call('EXISTS', key('request', rid)) == 1
if asked and redis.call('HGET', key('request', rid), 'fp') ~= fp then return unchanged('unknown') end
local state = peer_field(fp, 'state')
if not asked and state ~= 'revoked' then return unchanged('unknown') end
if replaces and (replaces == fp or not peer_field(replaces, 'state')) then return unchanged('unknown') end
if not state and not replaces and redis.call('ZCARD', key('book')) >= given.most then return unchanged('full') end

local source = asked and key('request', rid) or key('peer', fp)
local claim, kind = redis.call('HGET', source, 'claim'), redis.call('HGET', source, 'kind')
local was = state == 'verified' and peer_field(fp, 'claim')
if was and strength(claim) < strength(was) then return unchanged('unknown') end
local created_on = peer_field(replaces or fp, 'created_on') or now
local fps, rids = {fp}, {rid}
local text, fold
if replaces then
  -- The device came back with another key: it keeps its name and history, and the old key is shut out.
  text, fold = peer_field(replaces, 'name'), peer_fold(replaces)
  local old = request_id(replaces, peer_field(replaces, 'claim'))
  for _, each in ipairs(drop_requests_of(replaces)) do rids[#rids + 1] = each end
  remove_peer(replaces)
  deny(old, given.deny)
  fps[2] = replaces
  rids[#rids + 1] = old
elseif given.name.exact then
  text, fold = given.name.text, given.name.fold
  if name_taken(fold, fp) then return unchanged('taken') end
else
  text, fold = free_name(given.name, fp)
end
local what = replaces and 'replaced' or was and was ~= claim and 'proof changed' or 'approved'
enter_peer(fp, text, fold, kind, claim, created_on)
happened(what, text)
if rid then
  drop_request(rid)
  redis.call('HDEL', key('denied'), rid)
end
for _, weaker in ipairs(drop_requests_of(fp, claim)) do rids[#rids + 1] = weaker end
return changed('approved', fps, rids)
