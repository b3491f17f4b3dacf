-- Nonces and counters in shared memory of nginx. The worker does not yield between the steps, so they are one.

local LIMITS = { "customer day", "customer month", "merchant day", "merchant month" }
-- Longer than any month; counters of past periods go by themselves.
local MONTH_S = 32 * 86400

local Store = {}
Store.__index = Store

function Store.new(options)
    return setmetatable({ ceilings = options.ceilings, nonce_s = options.nonce_s, keys = {} }, Store)
end

function Store:take(mchid, nonce, customer, amount, day, month, day_left_s)
    local nonces, counters = ngx.shared.nonces, ngx.shared.counters
    -- safe_add and not add: add would make room by forgetting a nonce which can still be replayed.
    local added, problem = nonces:safe_add(mchid .. ":" .. nonce, true, self.nonce_s)
    if not added then
        return problem == "exists" and "replayed" or "failed"
    end
    local keys, ceilings = self.keys, self.ceilings
    keys[1] = "cd:" .. day .. ":" .. customer
    keys[2] = "cm:" .. month .. ":" .. customer
    keys[3] = "md:" .. day .. ":" .. mchid
    keys[4] = "mm:" .. month .. ":" .. mchid
    for index = 1, 4 do
        local ttl = index % 2 == 1 and day_left_s + 60 or MONTH_S
        local sum, failure, evicted = counters:incr(keys[index], amount, 0, ttl)
        if evicted then
            ngx.log(ngx.CRIT, "the dictionary is full: a counter was forgotten")
        end
        if not sum or sum > ceilings[index] then
            for taken = 1, sum and index or index - 1 do
                counters:incr(keys[taken], -amount)
            end
            if failure then
                return "failed"
            end
            return "limited", LIMITS[index]
        end
    end
    return "admitted"
end

return Store
