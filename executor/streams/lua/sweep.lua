#!lua flags=allow-oom
-- Takes marks of usage out whose evaluations have ended, or are not known any more. Whoever ends an evaluation does that
-- itself; this makes up for a worker of a version before quotas, and for a record that somebody deleted.
-- KEYS  usage, record...
-- ARGV  tenant and id of each record
-- Returns how many evaluations had marks to lose
local swept = 0
for i = 2, #KEYS do
  local tenant, id = ARGV[i * 2 - 3], ARGV[i * 2 - 2]
  local known = look(KEYS[i])
  if not known or known.state ~= 'queued' and known.state ~= 'running' then
    local removed = unmark(KEYS[1], tenant, id)
    swept = swept + (type(removed) == 'number' and removed > 0 and 1 or 0)
  end
end
return swept
