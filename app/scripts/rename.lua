-- Gives a peer another name.
-- given: fp, name
if not peer_field(given.fp, 'state') then return unchanged('unknown') end
if name_taken(given.name.fold, given.fp) then return unchanged('taken') end
happened('renamed', peer_field(given.fp, 'name'), given.name.text)
set_name(given.fp, given.name.text, given.name.fold)
return changed('renamed', {given.fp}, {})
