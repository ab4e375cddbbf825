#!lua
-- Reads further entries of several streams in turn, until they are many or large enough together: what a reader holds at
-- once is bounded, however large the requests are that wait.
-- KEYS  streams
-- ARGV  group, consumer, count, bytes
-- Returns what XREADGROUP does: {{stream, {{entry id, {field, value, ...}}, ...}}, ...}
local count, bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local found, open, taken, size = {}, #KEYS, 0, 0
for i, stream in ipairs(KEYS) do
  found[i] = {stream, {}}
end
while open > 0 and taken < count and size < bytes do
  open = 0
  for i, stream in ipairs(KEYS) do
    local read = taken < count and size < bytes
      and redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', 1, 'STREAMS', stream, '>')
    if read then
      local item = read[1][2][1]
      for _, word in ipairs(item[2]) do
        size = size + #word
      end
      found[i][2][#found[i][2] + 1] = item
      taken, open = taken + 1, open + 1
    end
  end
end
return found
