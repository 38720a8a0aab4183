/** Caches files in a web page: in its Cache API if it has one (over HTTPS or on localhost), else in memory. */
import type { ByteSource } from '@peftjs/safetensors';
import { hexDigest } from '../fingerprint.js';
import { reasonOf } from '../json.js';
import { gitPrefix, isSha256, mismatch, type HubCache, type Part } from './download.js';
import { HubError, type RepoType } from './request.js';
import { isCommit, type ListedFile } from './snapshot.js';

const CACHE_NAME = 'peftjs-hub';

/** The part of the Cache API used here, or its replacement in memory. */
interface PageStore {
  get(url: string): Promise<Blob | undefined>;
  put(url: string, content: Blob): Promise<void>;
  urls(): Promise<readonly string[]>;
}

/** Opens the cache of one repository. Its URLs are keys that only this cache uses. */
export async function pageCache(repo: string, type: RepoType, endpoint: string): Promise<HubCache> {
  const { get, put, urls } = await pageStore();
  const root = `${endpoint}/peftjs/${type}s/${repo}`;
  const addressOf = (commit: string, path: string): string =>
    `${root}/snapshots/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`;
  return {
    label: "the page's cache",
    async commitOf(revision) {
      const commit = await (await get(`${root}/refs/${revision}`))?.text();
      return commit !== undefined && isCommit(commit) ? commit : undefined;
    },
    remember: (revision, commit) => put(`${root}/refs/${revision}`, new Blob([commit])),
    async filesAt(commit) {
      const prefix = addressOf(commit, '');
      const here = (await urls()).filter((url) => url.startsWith(prefix));
      return Promise.all(
        here.map(async (url) => ({
          path: decodeURIComponent(url.slice(prefix.length)),
          size: (await get(url))?.size ?? 0,
        })),
      );
    },
    async open(commit, path) {
      const content = await get(addressOf(commit, path));
      return content && blobSource(content);
    },
    async keep(commit, file, fill) {
      const content = await gathered(fill);
      const hash = await hashOf(content, file);
      if (hash !== file.hash) throw mismatch(repo, file, hash);
      await put(addressOf(commit, file.path), content).catch((cause: unknown) => {
        const path = `${repo}/${file.path}`;
        throw new HubError(`${path}: the page cannot cache it: ${reasonOf(cause)}`, { path, cause });
      });
    },
  };
}

/** Reads a Blob in pieces. A Blob from the Cache API stays on the disk until it is read. */
function blobSource(content: Blob): ByteSource {
  return {
    size: content.size,
    read: async (offset, length) => new Uint8Array(await content.slice(offset, offset + length).arrayBuffer()),
  };
}

async function gathered(fill: (part: Part) => Promise<void>): Promise<Blob> {
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  await fill({
    get length() {
      return length;
    },
    append(bytes) {
      pieces.push(bytes as Uint8Array<ArrayBuffer>);
      length += bytes.length;
      return Promise.resolve();
    },
  });
  return new Blob(pieces);
}

async function hashOf(content: Blob, file: ListedFile): Promise<string> {
  const hashed = isSha256(file) ? content : new Blob([gitPrefix(file), content]);
  return hexDigest(isSha256(file) ? 'SHA-256' : 'SHA-1', new Uint8Array(await hashed.arrayBuffer()));
}

/** The standard Cache API. */
interface Caches {
  open(name: string): Promise<{
    match(url: string): Promise<Response | undefined>;
    put(url: string, response: Response): Promise<void>;
    keys(): Promise<readonly { readonly url: string }[]>;
  }>;
}

function pageStore(): Promise<PageStore> {
  const { caches } = globalThis as { readonly caches?: Caches };
  return caches ? cacheStore(caches) : Promise.resolve(memoryStore());
}

async function cacheStore(caches: Caches): Promise<PageStore> {
  const cache = await caches.open(CACHE_NAME);
  return {
    get: async (url) => (await cache.match(url))?.blob(),
    put: (url, content) => cache.put(url, new Response(content)),
    urls: async () => (await cache.keys()).map(({ url }) => url),
  };
}

function memoryStore(): PageStore {
  const contents = new Map<string, Blob>();
  return {
    get: (url) => Promise.resolve(contents.get(url)),
    put(url, content) {
      contents.set(url, content);
      return Promise.resolve();
    },
    urls: () => Promise.resolve([...contents.keys()]),
  };
}
