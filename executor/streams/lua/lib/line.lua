-- What waits before a lane, and how it gets in: up to the lane's credit, by priority without starvation, fairly between
-- tenants, and of no tenant more than its quota. Priorities take turns, and tenants within each, by start-time fair
-- queueing (Goyal, Vin, Cheng: SIGCOMM 1996): the smallest tag is next, virtual time is that tag, and who comes back has
-- the larger of virtual time and the tag after its last.
--
-- line = {high, normal, low, order, later, waiting, usage, quotas}
--        high, normal, low  tenants that have work waiting, by tag; an infinite one is at its quota
--        order    a hash: `credit`; `v` and `f:<p>` of the priorities; `v:<p>` and `t:<p>/<tenant>` of the tenants
--        later    members that may not wait in line yet, by the ms from which they may; '+' before a member that has no
--                 place at its tenant's rate yet, '=' before one that has, or needs none
--        waiting  members, all scores 0: sorted by priority, tenant, and age of the request
--        usage, quotas  see lib/quota.lua
-- high .. order and waiting exist only while something waits.

local COST = {1, 4, 16}  -- virtual time that one evaluation of a priority takes: 16 high ones for 4 normal ones for 1 low
local MOST_SKIPPED = 64  -- turns in one call of tenants that have nothing, or are at their quota

-- Raises WRONGTYPE, before anything is written, when a key of the line holds something else.
local function check_line(line)
  must_hold(line[7], 'zset')
  must_hold(line[8], 'hash')
  if redis.call('EXISTS', unpack(line, 1, 6)) > 0 then
    for i = 1, 6 do
      must_hold(line[i], i == 4 and 'hash' or 'zset')
    end
  end
end

local function padded(digits)
  return string.rep('0', 20 - #digits) .. digits
end

-- The next attempt of an evaluation, as its record has it. Names hold neither a slash nor a blank where it matters, so
-- that this can be read back.
local function member_of(record)
  local found = redis.call('HMGET', record, 'priority', 'tenant', 'entry', 'id', 'attempt', 'traceparent')
  local ms, number = string.match(found[3] or '', '^(%d+)%-(%d+)$')
  local age = padded(ms or '0') .. '-' .. padded(number or '0')
  return (string.match(found[1] or '', '^[123]$') or 2) .. '/' .. (found[2] or '') .. '/' .. age .. ' ' .. (found[4] or '') .. ' ' .. (found[5] or 0) + 1 .. ' '
    .. (found[6] or '')
end

local function owner_of(member)
  return string.match(member, '^([123])/([^/]*)/')
end

local function let_in(line, lane, member)
  local tenant, id, attempt, traceparent = string.match(member, '^%d/([^/]*)/[%d-]+ (%S*) (%d+) (.*)$')
  if id then  -- else no script put it there
    redis.call('XADD', lane, '*', 'id', id, 'tenant', tenant, 'attempt', attempt, 'traceparent', traceparent)
    mark(line[7], 'lane', tenant, id)
  end
end

-- Lag plus pending of a lane; nil while its lag is unknown, 0 while it has no group: the janitor mends both.
local function outstanding(lane, group)
  local found = group_of(lane, group)
  if not found then
    return 0
  end
  return found['lag'] and found['lag'] + found['pending'] or nil
end

local function number(hash, field)
  return tonumber(redis.call('HGET', hash, field) or 0)
end

-- Gives a shared key at least so long to live.
local function keep(key, ttl_ms)
  if redis.call('PTTL', key) < tonumber(ttl_ms) then
    redis.call('PEXPIRE', key, ttl_ms)
  end
end

-- Gives a tenant that has work waiting its turn; has no effect on one that has it.
local function take_turn(line, priority, tenant)
  local tag = math.max(number(line[4], 'v:' .. priority), number(line[4], 't:' .. priority .. '/' .. tenant))
  redis.call('ZADD', line[priority], 'NX', tag, tenant)
end

local function wait(line, member, credit, ttl_ms)
  local priority, tenant = owner_of(member)
  priority = tonumber(priority)
  redis.call('ZADD', line[6], 0, member)
  redis.call('HSET', line[4], 'credit', credit)
  take_turn(line, priority, tenant)
  for _, key in ipairs({line[priority], line[4], line[6]}) do
    keep(key, ttl_ms)
  end
end

local function delay(line, flag, member, until_ms, ttl_ms)
  redis.call('ZADD', line[5], until_ms, flag .. member)
  keep(line[5], ttl_ms)
end

-- Takes a waiting attempt out again: cancelled, or too old. A key that is not ours any more holds no place of it.
local function leave_line(line, member)
  if redis.pcall('ZREM', line[6], member) ~= 1 then
    redis.pcall('ZREM', line[5], '+' .. member, '=' .. member)
  end
end

-- Lets tenants that were at their quota have their turn again: one, or as many as may be looked at in one call.
local function take_turns_again(line, tenant)
  for priority = 1, 3 do
    local blocked = tenant and {tenant}
      or redis.call('ZRANGE', line[priority], '+inf', '+inf', 'BYSCORE', 'LIMIT', 0, MOST_SKIPPED)
    for _, one in ipairs(blocked) do
      if redis.call('ZSCORE', line[priority], one) == 'inf' and not at_quota(line[7], line[8], one) then
        redis.call('ZREM', line[priority], one)
        take_turn(line, priority, one)
      end
    end
  end
end

-- The priority whose turn it is, and its tag; nil when nobody has a turn.
local function next_priority(line)
  local best, first
  for priority = 1, 3 do
    local tenant = redis.call('ZRANGE', line[priority], 0, 0, 'WITHSCORES')
    if tenant[1] and tenant[2] ~= 'inf' then
      local tag = math.max(number(line[4], 'v'), number(line[4], 'f:' .. priority))
      if not first or tag < first then
        best, first = priority, tag
      end
    end
  end
  return best, first
end

-- Lets in the oldest of the tenant whose turn it is; false when it has none, or is at its quota.
local function serve(line, lane, priority)
  local popped = redis.call('ZPOPMIN', line[priority])
  local tenant, tag = popped[1], tonumber(popped[2])
  local own = priority .. '/' .. tenant
  local members = redis.call('ZRANGE', line[6], '[' .. own .. '/', '(' .. own .. '0', 'BYLEX', 'LIMIT', 0, 2)
  if #members > 0 and at_quota(line[7], line[8], tenant) then
    redis.call('HSET', line[4], 't:' .. own, tag)
    redis.call('ZADD', line[priority], 'inf', tenant)
    return false
  elseif #members == 0 then
    return false
  end
  let_in(line, lane, members[1])
  redis.call('ZREM', line[6], members[1])
  redis.call('HSET', line[4], 'v:' .. priority, tag, 't:' .. own, tag + 1)
  if #members > 1 then
    take_turn(line, priority, tenant)
  end
  return true
end

-- Lets in what there is room for; returns how many. `freed` is a tenant that has one less in lanes.
local function feed(line, lane, group, most, freed)
  local credit = tonumber(redis.call('HGET', line[4], 'credit') or nil)
  if credit then
    must_hold(lane, 'stream')
    check_line(line)
  end
  local used = credit and outstanding(lane, group)
  if not used then
    return 0
  end
  if freed then
    take_turns_again(line, freed)
  end
  local fed, skipped = 0, 0
  while used + fed < credit and fed < most and skipped < MOST_SKIPPED do
    local priority, turn = next_priority(line)
    if not priority then
      break
    elseif serve(line, lane, priority) then
      redis.call('HSET', line[4], 'v', turn, 'f:' .. priority, turn + COST[priority])
      fed = fed + 1
    else
      skipped = skipped + 1
    end
  end
  if redis.call('EXISTS', line[6]) == 0 then
    redis.call('DEL', line[1], line[2], line[3], line[4])
  end
  return fed
end

-- The same, by a step that must not fail for what is not its own: the janitor's feed says what is wrong with the line.
local function feed_if_ours(line, lane, group, most, freed)
  local done, problem = pcall(feed, line, lane, group, most, freed)
  if not done and not is_wrong_type(problem) then
    error(problem)
  end
end
