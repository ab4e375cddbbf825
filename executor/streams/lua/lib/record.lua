-- Reading a record whose key may hold something else, and whose fields anybody may have changed.

local function is_wrong_type(problem)
  return string.find(type(problem) == 'table' and problem.err or tostring(problem), 'WRONGTYPE', 1, true) ~= nil
end

-- What a record says, by name; nil when its key holds something that is not a record.
local function look(record)
  local names = {'state', 'id', 'tenant', 'attempt', 'generation', 'queued_at', 'max_attempts', 'deadline', 'owner',
    'outcome'}
  local raw = redis.pcall('HMGET', record, unpack(names))
  if raw.err then
    return not is_wrong_type(raw) and error(raw) or nil
  end
  local found = {}
  for i, name in ipairs(names) do
    found[name] = raw[i] or nil
  end
  return found
end

local function is_whole(text)
  return text and #text <= 15 and string.find(text, '^%d+$') ~= nil
end

-- Why an evaluation that has not ended can be neither run nor handed on: what its record says of it is not what a
-- dispatcher wrote. nil when nothing is wrong.
local function flaw_of(record, found)
  if not found.state or not string.find(' queued running done duplicate ', ' ' .. found.state .. ' ', 1, true) then
    return 'state: ' .. string.sub(found.state or 'missing', 1, 40)
  end
  local name = ':eval:' .. (found.tenant or '') .. ':' .. (found.id or '')
  if string.sub(record, -#name) ~= name then
    return 'id or tenant: not those of its key'
  end
  for _, field in ipairs({'attempt', 'generation', 'queued_at', 'max_attempts'}) do
    if not is_whole(found[field]) then
      return field .. ': ' .. (found[field] and 'not a whole number' or 'missing')
    end
  end
  return found.deadline and not is_whole(found.deadline) and 'deadline: not a whole number' or nil
end

-- What a person must remove.
local function foreign(key, kind)
  return key .. ' holds a ' .. redis.call('TYPE', key).ok .. ' instead of a ' .. kind
end
