#!lua
-- Adds requests of one tenant to its stream, all of them or none: not while the tenant's backlog is full, and not those
-- whose id or idempotency key is known.
-- KEYS  ingress
-- ARGV  ingress group, usage, quotas, tenant, then for each request: id, record, once | '', packed request
-- What it only reads stands in ARGV: a server with users takes all KEYS of a script for written, and a caller writes
-- nothing but its own stream. On a Redis Cluster all of them are in one slot, for they share the prefix.
-- Returns {'taken', for each request {entry id} | {'', id, state}, of the evaluation that it is} (state as records say it)
--       | {'full', evaluations outstanding, backlog}
local group, usage, quotas, tenant = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

-- The evaluation that a request is, if it is known: its id and state.
local function known(id, record, once)
  local first = once ~= '' and redis.call('GET', once)
  if first then
    id, record = first, string.sub(record, 1, #record - #id) .. first
  end
  local state = redis.call('HGET', record, 'state')
  return (first or state) and {'', id, state or ''}
end

local answers, new = {'taken'}, 0
for i = 5, #ARGV, 4 do
  local answer = known(ARGV[i], ARGV[i + 1], ARGV[i + 2])
  answers[#answers + 1] = answer or {}
  new = new + (answer and 0 or 1)
end
local left = new > 0 and room(usage, quotas, tenant)
if left then
  local found = group_of(KEYS[1], group)
  local waiting = found and found['lag'] and found['lag'] + found['pending'] or redis.call('XLEN', KEYS[1])
  if left - waiting <= 0 then
    local backlog = redis.call('HGET', quotas, tenant .. '/backlog')
    return {'full', backlog - left + waiting, tonumber(backlog)}
  end
end
for i = 5, #ARGV, 4 do
  local answer = answers[(i - 5) / 4 + 2]
  if #answer == 0 then
    answer[1] = redis.call('XADD', KEYS[1], '*', 'request', ARGV[i + 3])
  end
end
return answers
