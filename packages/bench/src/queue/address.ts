import { ConfigError } from '@peftjs/core';

/** A Redis, and how messages name it: without its password. */
export interface RedisAddress {
  readonly url: string;
  /** `redis://host:port/db`. */
  readonly shown: string;
}

/**
 * Reads what `--queue` says: `redis://host:port`, or `rediss://` where the connection is encrypted, with `user:password@` before the
 * host and `/db` behind the port where they are needed.
 * @throws ConfigError for anything else; a password is not repeated.
 */
export function parseAddress(text: string): RedisAddress {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isRedis = url !== undefined && ['redis:', 'rediss:'].includes(url.protocol) && url.hostname !== '';
  if (!isRedis || !/^\/?\d*$/.test(url.pathname) || url.search !== '' || url.hash !== '') {
    throw new ConfigError(
      `--queue is '${withoutPassword(text)}'; expected redis://host:port, with /db behind it for another database than 0, or rediss:// for TLS`,
      'queue',
    );
  }
  return {
    url: text,
    shown: `${url.protocol}//${url.hostname}:${url.port || '6379'}${url.pathname}`.replace(/\/$/, ''),
  };
}

/** What stands before an @ is nobody's business. */
function withoutPassword(text: string): string {
  return text.replace(/^([a-z]+:\/\/)?.*@/is, (_, scheme: string | undefined) => `${scheme ?? ''}…@`);
}
