local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- What XINFO GROUPS says of one group of a stream, by name; nil when there is no such group, or no stream.
local function group_of(stream, name)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  for _, raw in ipairs(groups.err and {} or groups) do
    local found = {}
    for i = 1, #raw, 2 do
      found[raw[i]] = raw[i + 1]
    end
    if found['name'] == name then
      return found
    end
  end
end
