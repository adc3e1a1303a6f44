-- Takes a peer out of the book. One that could have been there is denied for a while, so that it does not
-- ask again at once; one that was only entered ahead may ask.
-- given: fp, seconds it stays denied
local state = peer_field(given.fp, 'state')
if not state then return unchanged('unknown') end
local rids = drop_requests_of(given.fp)
if state ~= 'added' then
  local rid = request_id(given.fp, peer_field(given.fp, 'claim'))
  deny(rid, given.seconds)
  rids[#rids + 1] = rid
end
happened('removed', peer_field(given.fp, 'name'))
remove_peer(given.fp)
return changed('removed', {given.fp}, rids)
