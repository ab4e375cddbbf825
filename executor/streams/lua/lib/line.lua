-- What waits before a lane, and how it gets in: up to the lane's credit, by priority without starvation, fairly between
-- tenants. Both are start-time fair queueing (Goyal, Vin, Cheng: SIGCOMM 1996): work is tagged with the larger of its
-- queue's virtual time and the tag after its predecessor's; the smallest tag is next, and virtual time is that tag.
--
-- line = {high, normal, low, shares, later}
--        three sorted sets of members by tag; a hash: `credit`, `v` and `f:<p>` of the priorities, `v:<p>` and
--        `t:<p>:<tenant>` of the tenants within each, which exists only while something waits; and a sorted set by the
--        ms before which a member may not go on, with its priority in front.

local COST = {1, 4, 16}  -- virtual time that one evaluation of a priority takes: 16 high ones for 4 normal ones for 1 low

-- One waiting attempt. Names hold neither a slash nor a blank where it matters, so that this can be read back.
local function member_of(tenant, id, attempt, traceparent)
  return tenant .. '/' .. id .. ' ' .. attempt .. ' ' .. (traceparent or '')
end

local function let_in(lane, member)
  local tenant, id, attempt, traceparent = string.match(member, '^([^/]*)/(%S*) (%d+) (.*)$')
  redis.call('XADD', lane, '*', 'id', id, 'tenant', tenant, 'attempt', attempt, 'traceparent', traceparent)
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

local function wait(line, priority, member, credit, ttl_ms)
  local shares, field = line[4], 't:' .. priority .. ':' .. string.match(member, '^[^/]*')
  local tag = math.max(number(shares, 'v:' .. priority), number(shares, field))
  redis.call('ZADD', line[priority], tag, member)
  redis.call('HSET', shares, 'credit', credit, field, tag + 1)
  keep(line[priority], ttl_ms)
  keep(shares, ttl_ms)
end

-- Takes a waiting attempt out again: cancelled, or too old.
local function leave_line(line, priority, member)
  if priority and redis.call('ZREM', line[priority], member) == 0 then
    redis.call('ZREM', line[5], priority .. ' ' .. member)
  end
end

-- The priority whose turn it is, and its tag; nil when nothing waits.
local function next_priority(line)
  local best, first
  for priority = 1, 3 do
    if redis.call('EXISTS', line[priority]) == 1 then
      local tag = math.max(number(line[4], 'v'), number(line[4], 'f:' .. priority))
      if not first or tag < first then
        best, first = priority, tag
      end
    end
  end
  return best, first
end

-- Lets in what there is room for; returns how many.
local function feed(line, lane, group, most)
  local credit = tonumber(redis.call('HGET', line[4], 'credit') or nil)
  local used = credit and outstanding(lane, group)
  local fed = 0
  while used and used + fed < credit and fed < most do
    local priority, turn = next_priority(line)
    if not priority then
      break
    end
    local popped = redis.call('ZPOPMIN', line[priority])
    redis.call('HSET', line[4], 'v', turn, 'f:' .. priority, turn + COST[priority], 'v:' .. priority, popped[2])
    let_in(lane, popped[1])
    fed = fed + 1
  end
  if credit and not next_priority(line) then
    redis.call('DEL', line[4])
  end
  return fed
end
