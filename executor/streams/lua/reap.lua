#!lua flags=allow-oom
-- Removes consumers of programs that are gone: they hold nothing, and did nothing for long.
-- KEYS  stream
-- ARGV  group, idle_ms
-- One that holds an entry stays until that is rescued or taken over: DELCONSUMER would drop it. One that lives after
-- all is made anew by its next read.
-- Returns the names removed
local removed = {}
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
for _, raw in ipairs(consumers.err and {} or consumers) do
  local found = {}
  for i = 1, #raw, 2 do
    found[raw[i]] = raw[i + 1]
  end
  if found['pending'] == 0 and found['idle'] >= tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], found['name'])
    removed[#removed + 1] = found['name']
  end
end
return removed
