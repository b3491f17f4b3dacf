// Makes the calls that a parameter file lists with npm wechatpay-axios-plugin, and prints what became of each as JSON.
//
// The client verifies each 2xx answer itself: signature, serial, and a timestamp within 300 s of its own clock.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Agent } from 'node:https';

const parameters = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const require = createRequire(parameters.modules);
const { Wechatpay } = require('wechatpay-axios-plugin');

const agent = new Agent({ ca: readFileSync(parameters.authority_file), keepAlive: true });

function connect({ mchid, serial, private_key: privateKey, platform_keys: certs }) {
  return new Wechatpay({ mchid, serial, privateKey, certs, baseURL: parameters.base_url, httpsAgent: agent });
}

// Shifts this process's clock once the request is signed, so that only the answer is judged by the shifted one.
function shiftClock(offsetSeconds, calls) {
  const { now } = Date;
  return {
    ...calls,
    transformRequest: [...require('axios').defaults.transformRequest, (data) => {
      Date.now = () => now() + offsetSeconds * 1000;
      return data;
    }],
    restore: () => { Date.now = now; },
  };
}

async function make(call) {
  const resource = call.resource.split('/').reduce((node, part) => node[part], connect(call.client));
  const { restore, ...config } = shiftClock(call.clock_offset_s ?? 0, call.config ?? {});
  try {
    const answer = await (call.data ? resource.post(call.data, config) : resource.get(config));
    return { status: answer.status, data: answer.data };
  } catch (error) {
    const { status, data, headers } = error.response ?? {};
    return { error: error.code, message: error.message, status, data, retry_after: headers?.['retry-after'] };
  } finally {
    restore();
  }
}

const outcomes = {};
for (const call of parameters.calls) {
  outcomes[call.name] = await make(call);
}
agent.destroy();
process.stdout.write(JSON.stringify(outcomes));
