-- Nonces and counters in Redis, which does the whole step in one script: one round trip, all or nothing.

local redis = require "nginx.redis"
redis.add_commands("evalsha")

local format, sub = string.format, string.sub
local LIMITS = { "customer day", "customer month", "merchant day", "merchant month" }
local TIMEOUT_MS = 2000
local IDLE_MS = 60000
-- As many as a load of this kind has requests under way, so that no connection is opened in the steady state.
local IDLE_CONNECTIONS_MAX = 512
-- Longer than any month; counters of past periods go by themselves.
local MONTH_S = 32 * 86400

-- Keys: nonce, then the four counters. Arguments: amount, seconds to keep the nonce, the day and the month, ceilings.
-- Answers 0 when admitted, -1 when replayed, else the number of the limit. One MGET instead of four GETs, and an
-- expiry is set only with the first value: fewer calls out of the script.
local SCRIPT = [[
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[2]) then
    return -1
end
local sums = redis.call('MGET', KEYS[2], KEYS[3], KEYS[4], KEYS[5])
local amount = tonumber(ARGV[1])
for index = 1, 4 do
    if tonumber(sums[index] or 0) + amount > tonumber(ARGV[4 + index]) then
        return index
    end
end
for index = 1, 4 do
    if sums[index] then
        redis.call('INCRBY', KEYS[1 + index], ARGV[1])
    else
        redis.call('SET', KEYS[1 + index], ARGV[1], 'EX', ARGV[4 - index % 2])
    end
end
return 0
]]

local function hex(bytes)
    return (bytes:gsub(".", function(character) return format("%02x", character:byte()) end))
end

local Store = {}
Store.__index = Store

function Store.new(options)
    return setmetatable({
        socket = options.socket,
        nonce_s = options.nonce_s,
        ceilings = options.ceilings,
        digest = hex(ngx.sha1_bin(SCRIPT)),
    }, Store)
end

function Store:take(mchid, nonce, customer, amount, day, month, day_left_s)
    local connection = redis:new()
    connection:set_timeout(TIMEOUT_MS)
    local connected, problem = connection:connect(self.socket)
    if not connected then
        ngx.log(ngx.ERR, "redis: ", problem)
        return "failed"
    end
    local nonce_key = "n:" .. mchid .. ":" .. nonce
    local customer_day, customer_month = "cd:" .. day .. ":" .. customer, "cm:" .. month .. ":" .. customer
    local merchant_day, merchant_month = "md:" .. day .. ":" .. mchid, "mm:" .. month .. ":" .. mchid
    -- As digits: tostring would write 1e+14 from 100,000,000,000,000 on, which INCRBY refuses.
    local digits, ceilings = format("%d", amount), self.ceilings
    -- Written out twice: a closure made on every request would keep LuaJIT compiling, which costs a third.
    local answer, failure = connection:evalsha(self.digest, 5, nonce_key, customer_day, customer_month, merchant_day,
        merchant_month, digits, self.nonce_s, day_left_s + 60, MONTH_S,
        ceilings[1], ceilings[2], ceilings[3], ceilings[4])
    if not answer and failure and sub(failure, 1, 8) == "NOSCRIPT" then
        -- The first request after Redis started: EVAL also stores the script.
        answer, failure = connection:eval(SCRIPT, 5, nonce_key, customer_day, customer_month, merchant_day,
            merchant_month, digits, self.nonce_s, day_left_s + 60, MONTH_S,
            ceilings[1], ceilings[2], ceilings[3], ceilings[4])
    end
    if not answer then
        ngx.log(ngx.ERR, "redis: ", failure)
        return "failed"
    end
    connection:set_keepalive(IDLE_MS, IDLE_CONNECTIONS_MAX)
    if answer == 0 then
        return "admitted"
    elseif answer == -1 then
        return "replayed"
    end
    return "limited", LIMITS[answer]
end

return Store
