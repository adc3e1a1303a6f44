-- Enters devices ahead from an export. Those that the book has, and those over its quota, are left out.
-- given: peers (fp, name, kind), most
if redis.call('EXISTS', KEYS[1]) == 0 then return unchanged('unknown') end
local fps = {}
for _, peer in ipairs(given.peers) do
  if not peer_field(peer.fp, 'state') and redis.call('ZCARD', key('book')) < given.most then
    local text, fold = free_name(peer.name, peer.fp)
    add_peer(peer.fp, text, fold, peer.kind)
    fps[#fps + 1] = peer.fp
  end
end
if #fps == 0 then return unchanged('nothing') end
happened('imported', '', tostring(#fps))
return changed('imported', fps, {})
