#!lua
-- Reads further entries of several streams in turn, until they are many or large enough together: what a reader holds at
-- once is bounded, however large the requests are that wait. Of a tenant whose backlog is full nothing is read: its
-- requests wait in its stream.
-- KEYS  usage, quotas, streams
-- ARGV  group, consumer, count, bytes, the tenant of each stream
-- Returns {what XREADGROUP does: {{stream, {{entry id, {field, value, ...}}, ...}}, ...}, {each stream not to read}}
local count, bytes = tonumber(ARGV[3]), tonumber(ARGV[4])
local found, left, full, open, taken, size = {}, {}, {}, 1, 0, 0
for i = 1, #KEYS - 2 do
  found[i], left[i] = {KEYS[i + 2], {}}, room(KEYS[1], KEYS[2], ARGV[i + 4]) or count
end
while open > 0 and taken < count and size < bytes do
  open = 0
  for i, stream in ipairs(found) do
    local read = taken < count and size < bytes and left[i] > 0
      and redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', 1, 'STREAMS', stream[1], '>')
    if read then
      local item = read[1][2][1]
      for _, word in ipairs(item[2]) do
        size = size + #word
      end
      stream[2][#stream[2] + 1] = item
      taken, open, left[i] = taken + 1, open + 1, left[i] - 1
    end
  end
end
for i, stream in ipairs(found) do
  if left[i] <= 0 then
    full[#full + 1] = stream[1]
  end
end
return {found, full}
