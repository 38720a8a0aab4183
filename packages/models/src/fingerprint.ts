import { isQuantized, UnsupportedError, type HostTensor, type HostTensors } from '@peftjs/core/method';
import type { Network } from './architecture.js';

/**
 * One hash over an architecture, its weights and its tokenizer. The head is left out: every task makes its own, and an
 * adapter belongs to the network below it.
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
  const { buffer, byteOffset, byteLength } = weight.values;
  return `int8 ${shape} ${await sha256(new Uint8Array(buffer, byteOffset, byteLength))} ${await sha256(weight.scale)}`;
}

/** SHA-256 in hexadecimal. @throws UnsupportedError where Web Crypto is missing: a page without HTTPS. */
export function sha256(bytes: Uint8Array | Float32Array | Int32Array): Promise<string> {
  return hexDigest('SHA-256', bytes);
}

/** A hash in hexadecimal. @throws UnsupportedError where Web Crypto is missing: a page without HTTPS. */
export async function hexDigest(
  algorithm: 'SHA-256' | 'SHA-1',
  bytes: Uint8Array | Float32Array | Int32Array,
): Promise<string> {
  const view = new Uint8Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
  const crypto = nodeCrypto();
  if (crypto) return crypto.createHash(algorithm).update(view).digest('hex');
  const subtle = (globalThis.crypto as Partial<typeof globalThis.crypto>).subtle;
  if (!subtle) {
    throw new UnsupportedError(
      `a model is identified by ${algorithm}, which a page offers over HTTPS or on localhost only`,
    );
  }
  const digest = new Uint8Array(await subtle.digest(algorithm, view));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Node's own hashes, which read bytes where they lie: Web Crypto copies them, the largest weight of a model too. */
function nodeCrypto(): typeof import('node:crypto') | undefined {
  const { process } = globalThis as { process?: Partial<NodeJS.Process> };
  return process?.getBuiltinModule?.('node:crypto');
}
