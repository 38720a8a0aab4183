import { ConfigError } from '@peftjs/core';

const HUB = 'https://huggingface.co';

/** Addresses of this very machine. */
const LOOPBACK = /^(localhost|127(\.\d+){3}|\[::1\])$/;

/** Variables by name. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Whether this is a Node process, and no page that has been given something alike. */
export function isNode(): boolean {
  const { process } = globalThis as { process?: { versions?: { node?: string } } };
  return process?.versions?.node !== undefined && !('document' in globalThis);
}

/** The variables of a Node process. A page has none, and so never a token. */
export function nodeEnvironment(): Environment {
  return isNode() ? globalThis.process.env : {};
}

/** The address of the hub, without a slash at its end: the one given, else HF_ENDPOINT. @throws ConfigError when that is none. */
export function endpointOf(given: string | undefined, environment: Environment): string {
  const endpoint = given ?? (environment.HF_ENDPOINT?.trim() || HUB);
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (url && /^https?:$/.test(url.protocol) && url.username === '' && url.password === '' && url.search === '') {
    return url.href.replace(/\/+$/, '');
  }
  const name = given === undefined ? 'HF_ENDPOINT' : 'hubUrl';
  throw new ConfigError(`${name} must be an address like ${HUB}, without a password`, name);
}

/**
 * HF_TOKEN, else HF_ACCESS_TOKEN.
 * @param endpoint where it would be sent
 * @throws ConfigError, which does not show it, when it cannot be a token, or would go over a network unencrypted.
 */
export function tokenOf(environment: Environment, endpoint: string): string | undefined {
  const name = environment.HF_TOKEN?.trim() ? 'HF_TOKEN' : 'HF_ACCESS_TOKEN';
  const token = environment[name]?.trim();
  if (!token) return undefined;
  const { protocol, hostname } = new URL(endpoint);
  if (protocol !== 'https:' && !LOOPBACK.test(hostname)) {
    throw new ConfigError(`${name} would go to ${endpoint} unencrypted: give an https address, or unset ${name}`, name);
  }
  if (/^hf_\w+$/.test(token)) return token;
  throw new ConfigError(
    `${name} must be a token of the hub: 'hf_' and letters or digits; its value is not shown`,
    name,
  );
}

/** Whether HF_HUB_OFFLINE forbids to ask the hub. */
export function isKeptOffline({ HF_HUB_OFFLINE = '' }: Environment): boolean {
  return ['1', 'ON', 'YES', 'TRUE'].includes(HF_HUB_OFFLINE.toUpperCase());
}
