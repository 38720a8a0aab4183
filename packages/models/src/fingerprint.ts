import { UnsupportedError, type HostTensor, type HostTensors } from '@peftjs/core/method';
import { isQuantized, nodeModule } from '@peftjs/core/model';
import type { Network } from './architecture.js';

/**
 * Returns one hash of an architecture, its weights and its tokenizer. It excludes the head: every task has its own, and
 * an adapter belongs to the network below.
 */
export async function modelFingerprint(
  { name, maxTokens, settings, sites, encodeOnly }: Network,
  weights: HostTensors,
  tokenizer: string,
): Promise<string> {
  const tensors: string[] = [];
  for (const [path, weight] of Object.entries(weights).sort(([a], [b]) => (a < b ? -1 : 1))) {
    tensors.push(`${path} ${await contentOf(weight)}`);
  }
  const content = JSON.stringify({ name, maxTokens, settings, sites, encodeOnly, tensors, tokenizer });
  return sha256(new TextEncoder().encode(content));
}

async function contentOf(weight: HostTensor): Promise<string> {
  const shape = `[${weight.shape.join(', ')}]`;
  if (!isQuantized(weight)) return `${weight.dtype} ${shape} ${await sha256(weight.data)}`;
  const { values, scale, zero } = weight.parts;
  const parts = zero ? [values, scale, zero] : [values, scale]; // the steps of 4 bits follow from the rest
  const hashes = await Promise.all(parts.map(({ data }) => sha256(data)));
  return `${values.dtype} ${shape} ${hashes.join(' ')}`;
}

type Bytes = Uint8Array | Int8Array | Float32Array | Int32Array;

/** Returns the SHA-256 in hexadecimal. @throws UnsupportedError without Web Crypto, i.e. in a page without HTTPS. */
export function sha256(bytes: Bytes): Promise<string> {
  return hexDigest('SHA-256', bytes);
}

/** Returns a hash in hexadecimal. @throws UnsupportedError without Web Crypto, i.e. in a page without HTTPS. */
export async function hexDigest(algorithm: 'SHA-256' | 'SHA-1', bytes: Bytes): Promise<string> {
  const view = new Uint8Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
  // It reads bytes in place; Web Crypto would copy even the largest weight.
  const crypto = nodeModule('node:crypto') as typeof import('node:crypto') | undefined;
  // Deno does not know 'SHA-256'.
  if (crypto) return crypto.createHash(algorithm.replace('-', '')).update(view).digest('hex');
  const subtle = (globalThis.crypto as Partial<typeof globalThis.crypto>).subtle;
  if (!subtle) {
    throw new UnsupportedError(
      `models are identified by ${algorithm}, which a page only has over HTTPS or on localhost`,
    );
  }
  const digest = new Uint8Array(await subtle.digest(algorithm, view));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
