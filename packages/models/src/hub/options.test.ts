import { ConfigError } from '@peftjs/core/method';
import { expect, it } from 'vitest';
import { tokenOf } from './options.js';

const environment = { HF_TOKEN: 'hf_secret' };

it.each(['https://huggingface.co', 'http://localhost:8080', 'http://127.0.0.1', 'http://[::1]:80'])(
  'sends the token to %s',
  (endpoint) => {
    expect(tokenOf(environment, endpoint)).toBe('hf_secret');
  },
);

it.each(['http://hub.example', 'http://127.0.0.1.example', 'http://localhost.example'])(
  'does not send the token unencrypted to %s',
  (endpoint) => {
    const ask = () => tokenOf(environment, endpoint);
    expect(ask).toThrow(ConfigError);
    expect(ask).toThrow(/^(?!.*secret)HF_TOKEN would go to .* unencrypted/);
    expect(tokenOf({}, endpoint)).toBeUndefined();
  },
);

it.each(['hf_oauth_eyJh.eyJz.c2-_', 'api_org_ofAll', 'a-mirror:token=='])('takes the token %s', (token) => {
  expect(tokenOf({ HF_TOKEN: ` ${token}\n` }, 'https://huggingface.co')).toBe(token);
});

it.each(['hf_two\nlines', 'hf_two words', 'hf_ü'])('refuses %j, and does not show it', (token) => {
  expect(() => tokenOf({ HF_TOKEN: token }, 'https://huggingface.co')).toThrow(/^(?!.*(two|ü))HF_TOKEN must be/);
});
