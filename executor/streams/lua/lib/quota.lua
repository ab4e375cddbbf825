-- What each tenant has at once, and what it may have.
--
-- usage   a sorted set whose scores are all 0, so that ZLEXCOUNT counts the members of one tenant:
--         'open/<tenant>/<id>' of each evaluation that has not ended, 'lane/<tenant>/<id>' of each that was let into a
--         lane. Membership, not a counter: adding or taking out twice changes nothing.
-- quotas  a hash that dispatchers keep (executor/streams/quotas.py): `<tenant>/backlog`, `<tenant>/concurrency`,
--         `<tenant>/rate` a second, `<tenant>/burst`; and `<tenant>/tat`, written here.

local function mark(usage, what, tenant, id)
  redis.call('ZADD', usage, 0, what .. '/' .. tenant .. '/' .. id)
end

-- An end must not fail for a key of all that holds something else: nor does that say anything of it.
local function unmark(usage, tenant, id)
  local name = tenant .. '/' .. id
  return redis.pcall('ZREM', usage, 'open/' .. name, 'lane/' .. name)
end

local function held(usage, what, tenant)
  local head = what .. '/' .. tenant
  return redis.call('ZLEXCOUNT', usage, '[' .. head .. '/', '(' .. head .. '0')  -- '0' is the character after '/'
end

-- Whether a tenant has as many in lanes as it may.
local function at_quota(usage, quotas, tenant)
  local most = tonumber(redis.call('HGET', quotas, tenant .. '/concurrency') or nil)
  return most and held(usage, 'lane', tenant) >= most
end

-- How many more evaluations a tenant may have open; nil without a limit.
local function room(usage, quotas, tenant)
  local most = tonumber(redis.call('HGET', quotas, tenant .. '/backlog') or nil)
  return most and most - held(usage, 'open', tenant)
end

-- Takes the next place at a tenant's rate and says when it is, in ms since the epoch; nil without a rate.
-- The generic cell rate algorithm (ITU-T I.371, virtual scheduling): one number for each tenant.
local function next_at_rate(quotas, tenant)
  local found = redis.call('HMGET', quotas, tenant .. '/rate', tenant .. '/burst', tenant .. '/tat')
  local rate = tonumber(found[1] or nil)
  if rate then
    local step = 1000 / rate
    local due = math.max(now_ms(), tonumber(found[3] or 0))
    redis.call('HSET', quotas, tenant .. '/tat', string.format('%.3f', due + step))
    return due - (tonumber(found[2] or 1) - 1) * step
  end
end
