/** A server with the API of the Hugging Face hub, and a second one for the large files, as the hub has. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A repository with one or several commits. */
export interface Repo {
  readonly type: 'model' | 'dataset';
  /** `organisation/name`. */
  readonly name: string;
  /** The commits of branches and tags. */
  readonly refs: Record<string, string>;
  /** Files by path, for each commit. */
  readonly commits: Record<string, Readonly<Record<string, Uint8Array>>>;
  /** The token that is required to read it. */
  readonly token?: string;
  /** Whether only users who were granted access may read it. */
  readonly gated?: boolean;
}

/** A received request. */
interface Seen {
  /** 'hub', or 'store' for the server of the large files. */
  readonly at: 'hub' | 'store';
  readonly method: string;
  /** The path, without the query string. */
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
  /** The bytes of a file that were sent. */
  sent: number;
}

/** A disturbance: what a server does instead of answering normally. */
export type Disturbance =
  | { readonly status: number; readonly headers?: Readonly<Record<string, string>>; readonly body?: string }
  /** Sends so many bytes of the body, then breaks the connection. */
  | { readonly cutAfter: number }
  /** Sends so many bytes of the body, then nothing until the connection is broken. */
  | { readonly stallAfter: number }
  /** Answers a range request with the whole file. */
  | { readonly ignoreRange: true }
  /** Sends other bytes. */
  | { readonly content: Uint8Array };

/** A running hub. */
export interface Hub {
  readonly url: string;
  readonly seen: Seen[];
  readonly repos: Repo[];
  /** The number of a list's files per answer. */
  pageSize: number;
  /** The host of the next page of a list, if it is another one. */
  nextPageAt: string | undefined;
  /** The organisations to which each token may write. */
  readonly writers: Readonly<Record<string, string>>;
  /** Replaces a list of files. */
  listing: ((files: readonly object[]) => unknown) | undefined;
  /** Disturbs the next requests whose path matches, each disturbance once. */
  disturb(path: RegExp, ...how: readonly Disturbance[]): void;
  /** Removes the remaining disturbances. */
  calm(): void;
  close(): Promise<void>;
}

/** Files from this size on are stored on the second server. */
const LARGE_BYTES = 50_000;

/** The hash by which git and the hub name a file's bytes. */
export function hashesOf(bytes: Uint8Array): { readonly git: string; readonly sha256: string } {
  return {
    git: createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex'),
    sha256: createHash('sha256').update(bytes).digest('hex'),
  };
}

/** The name of a file in a cache. */
export function etagOf(bytes: Uint8Array): string {
  const { git, sha256 } = hashesOf(bytes);
  return bytes.length >= LARGE_BYTES ? sha256 : git;
}

/** Starts a hub and its store on free ports. */
export async function startHub(repos: Repo[]): Promise<Hub> {
  const seen: Seen[] = [];
  const disturbances: { path: RegExp; how: Disturbance }[] = [];
  const disturbance = (path: string): Disturbance | undefined => {
    const index = disturbances.findIndex((one) => one.path.test(path));
    return index < 0 ? undefined : disturbances.splice(index, 1)[0]?.how;
  };
  const note = (at: Seen['at'], { method = '', headers }: IncomingMessage, path: string): Seen => {
    const { range, authorization } = headers;
    const one = { at, method, path, range, authorization, sent: 0 };
    seen.push(one);
    return one;
  };
  const hub: Hub = {
    url: '',
    seen,
    repos,
    pageSize: 1000,
    nextPageAt: undefined,
    writers: { hf_ofMe: 'me' },
    listing: undefined,
    disturb: (path, ...how) => void disturbances.push(...how.map((one) => ({ path, how: one }))),
    calm() {
      disturbances.length = 0;
    },
    async close() {
      await Promise.all([close(front), close(store)]);
    },
  };

  const uploaded = new Map<string, Uint8Array>();
  const store = createServer((request, response) => {
    const { pathname: path } = new URL(request.url ?? '', 'http://store');
    if (request.method === 'PUT') {
      note('store', request, path);
      void bodyOf(request).then((bytes) => {
        uploaded.set(path.slice(1), bytes);
        response.writeHead(hashesOf(bytes).sha256 === path.slice(1) ? 200 : 400).end();
      });
      return;
    }
    const bytes = contentOf(repos, path.slice(1));
    const one = note('store', request, path);
    if (bytes) sendFile(response, { request, one, bytes, etag: 'of-the-store', how: disturbance(path) });
    else refuse(response, 404, {});
  });
  const front = createServer((request, response) => {
    const url = new URL(request.url ?? '', 'http://hub');
    const one = note('hub', request, decodeURIComponent(url.pathname));
    const how = disturbance(one.path);
    if (how && 'status' in how) response.writeHead(how.status, how.headers).end(how.body ?? '');
    else if (request.method === 'POST') {
      void bodyOf(request).then((body) => {
        const answered = written(hub, { one, store: addressOf(store), uploaded }, Buffer.from(body).toString());
        if (typeof answered === 'number') refuse(response, answered, {});
        else sendJson(response, answered);
      });
    } else answer(hub, { request, response, one, url, how, store: addressOf(store) });
  });
  await Promise.all([listen(front), listen(store)]);
  return Object.assign(hub, { url: addressOf(front) });
}

async function bodyOf(request: IncomingMessage): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of request) parts.push(part as Uint8Array);
  return new Uint8Array(Buffer.concat(parts));
}

interface Writing extends Pick<Exchange, 'one' | 'store'> {
  /** Uploaded large files, by SHA-256. */
  readonly uploaded: ReadonlyMap<string, Uint8Array>;
}

/** A line of a commit request. */
interface CommitLine {
  readonly key: 'header' | 'file' | 'lfsFile';
  readonly value: { readonly path: string; readonly content: string; readonly oid: string };
}

/**
 * Creates a repository, says where its files go, and accepts commits. Returns the answer, or the status of an error.
 */
function written(hub: Hub, { one, store, uploaded }: Writing, body: string): object | number {
  const namespace = hub.writers[one.authorization?.replace('Bearer ', '') ?? ''];
  const create = one.path === '/api/repos/create' ? (JSON.parse(body) as Record<string, string>) : undefined;
  const asked =
    /^\/(?:api\/models\/)?([^/]+)\/([^/]+?)(?:\.git\/info\/lfs\/objects\/batch|\/(preupload|commit)\/([^/]+))$/.exec(
      one.path,
    );
  const [, owner = create?.organization ?? '', name = create?.name ?? '', kind, revision = 'main'] = asked ?? [];
  if (namespace === undefined) return 401;
  if (namespace !== owner) return 403;
  const at = hub.repos.findIndex((repo) => repo.name === `${owner}/${name}`);
  if (create) {
    if (at >= 0) return 409;
    hub.repos.push({
      type: 'model',
      name: `${owner}/${name}`,
      refs: {},
      commits: {},
      ...(create.visibility === 'private' && { token: 'hf_ofMe' }),
    });
    return { url: `${hub.url}/${owner}/${name}`, id: 'x' };
  }
  const repo = hub.repos[at];
  if (repo === undefined) return 404;
  if (kind === 'preupload') {
    const { files } = JSON.parse(body) as { files: { path: string; size: number }[] };
    const modes = files.map(({ path, size }) => ({ path, uploadMode: size >= LARGE_BYTES ? 'lfs' : 'regular' }));
    return { files: modes };
  }
  if (kind === 'commit') {
    const lines = body
      .split('\n')
      .map((line) => JSON.parse(line) as CommitLine)
      .filter(({ key }) => key !== 'header');
    const files = lines.map(({ key, value }): [string, Uint8Array] => [
      value.path,
      key === 'lfsFile'
        ? (uploaded.get(value.oid) as Uint8Array)
        : new Uint8Array(Buffer.from(value.content, 'base64')),
    ]);
    const commitOid = createHash('sha1').update(body).digest('hex');
    repo.commits[commitOid] = { ...repo.commits[repo.refs[revision] ?? ''], ...Object.fromEntries(files) };
    repo.refs[revision] = commitOid;
    return { commitOid, commitUrl: `${hub.url}/${repo.name}/commit/${commitOid}` };
  }
  const { objects } = JSON.parse(body) as { objects: { oid: string; size: number }[] };
  const actions = (oid: string) => (uploaded.has(oid) ? {} : { actions: { upload: { href: `${store}/${oid}` } } });
  return { transfer: 'basic', objects: objects.map((object) => ({ ...object, ...actions(object.oid) })) };
}

interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly one: Seen;
  readonly url: URL;
  readonly how: Disturbance | undefined;
  readonly store: string;
}

function answer(hub: Hub, exchange: Exchange): void {
  const { one, response } = exchange;
  const api = /^\/api\/(model|dataset)s\/([^/]+\/[^/]+)(?:\/(revision|tree)\/(.+))?$/.exec(one.path);
  const file = /^\/(datasets\/)?([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(one.path);
  if (api) {
    const [, type, name, kind, revision = 'main'] = api;
    const found = open(hub, exchange, { type, name, revision });
    if (!found) return;
    if (kind !== 'tree') sendJson(response, described(found));
    else sendList(hub, exchange, found.files);
  } else if (file) {
    const [, dataset, name, revision = '', path = ''] = file;
    const found = open(hub, exchange, { type: dataset ? 'dataset' : 'model', name, revision });
    if (found) sendResolved(exchange, found, path);
  } else refuse(response, 404, {});
}

interface Found {
  readonly repo: Repo;
  readonly commit: string;
  readonly files: Readonly<Record<string, Uint8Array>>;
}

/** A repository at a revision, or the error of the hub. */
function open(
  { repos }: Hub,
  { one, response }: Exchange,
  asked: { type: string | undefined; name: string | undefined; revision: string },
): Found | undefined {
  const repo = repos.find(({ type, name }) => type === asked.type && name === asked.name);
  const token = one.authorization?.replace('Bearer ', '');
  if (!repo || (repo.token !== undefined && repo.token !== token)) {
    refuse(response, token === undefined ? 401 : 404, { 'X-Error-Code': 'RepoNotFound' });
    return undefined;
  }
  if (repo.gated) {
    refuse(response, token === undefined ? 401 : 403, { 'X-Error-Code': 'GatedRepo' });
    return undefined;
  }
  const commit = repo.refs[asked.revision] ?? asked.revision;
  const files = repo.commits[commit];
  if (files) return { repo, commit, files };
  refuse(response, 404, { 'X-Error-Code': 'RevisionNotFound' });
  return undefined;
}

function described({ repo, commit, files }: Found): object {
  const siblings = Object.keys(files).map((rfilename) => ({ rfilename }));
  const [id, date] = [repo.name, '2025-01-01T00:00:00.000Z'];
  return {
    _id: 'x',
    id,
    modelId: id,
    sha: commit,
    private: false,
    gated: false,
    downloads: 1,
    likes: 1,
    lastModified: date,
    siblings,
    tags: [],
  };
}

function sendList(hub: Hub, { response, url }: Exchange, files: Found['files']): void {
  const entries = Object.entries(files).map(([path, bytes]) => {
    const { git, sha256 } = hashesOf(bytes);
    const large = bytes.length >= LARGE_BYTES;
    return {
      type: 'file',
      path,
      size: bytes.length,
      oid: git,
      ...(large && { lfs: { oid: sha256, size: bytes.length, pointerSize: 134 } }),
    };
  });
  const folders = [...new Set(entries.flatMap(({ path }) => (path.includes('/') ? [path.split('/')[0]] : [])))];
  const all = [...folders.map((path) => ({ type: 'directory', path, size: 0, oid: '0'.repeat(40) })), ...entries];
  const from = Number(url.searchParams.get('cursor') ?? 0);
  const next = from + hub.pageSize;
  url.searchParams.set('cursor', String(next));
  const link =
    next < all.length ? { Link: `<${hub.nextPageAt ?? hub.url}${url.pathname}${url.search}>; rel="next"` } : {};
  sendJson(response, hub.listing ? hub.listing(all) : all.slice(from, next), link);
}

/** Small files come from the hub itself, large ones from a signed address of the store. */
function sendResolved({ request, response, one, how, store }: Exchange, { commit, files }: Found, path: string): void {
  const bytes = files[path];
  if (!bytes) {
    refuse(response, 404, { 'X-Error-Code': 'EntryNotFound', 'X-Repo-Commit': commit });
    return;
  }
  const etag = etagOf(bytes);
  if (bytes.length < LARGE_BYTES) {
    sendFile(response, { request, one, bytes, etag, how, commit });
    return;
  }
  const headers = { 'X-Repo-Commit': commit, 'X-Linked-ETag': `"${etag}"`, 'X-Linked-Size': String(bytes.length) };
  response.writeHead(302, { ...headers, Location: `${store}/${etag}?Signature=secret-of-the-store` }).end();
}

interface Sending {
  readonly request: IncomingMessage;
  readonly one: Seen;
  readonly bytes: Uint8Array;
  readonly etag: string;
  readonly how: Disturbance | undefined;
  readonly commit?: string;
}

function sendFile(response: ServerResponse, { request, one, bytes, etag, how, commit }: Sending): void {
  if (how && 'status' in how) return void response.writeHead(how.status, how.headers).end(how.body ?? '');
  const content = how && 'content' in how ? how.content : bytes;
  const asked = how && 'ignoreRange' in how ? undefined : /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  const from = Number(asked?.[1] ?? 0);
  const to = Math.min(asked?.[2] ? Number(asked[2]) + 1 : content.length, content.length);
  const body = content.subarray(from, to);
  response.writeHead(asked ? 206 : 200, {
    ETag: `"${etag}"`,
    'Content-Length': String(body.length),
    'Accept-Ranges': 'bytes',
    ...(asked && { 'Content-Range': `bytes ${from}-${to - 1}/${content.length}` }),
    ...(commit !== undefined && { 'X-Repo-Commit': commit }),
  });
  if (request.method === 'HEAD') return void response.end();
  if (how && 'stallAfter' in how) {
    one.sent = how.stallAfter;
    response.write(body.subarray(0, how.stallAfter));
  } else if (how && 'cutAfter' in how) {
    one.sent = Math.min(how.cutAfter, body.length);
    // A pause, in which the client reads what was sent: fetch discards unread bytes when the connection breaks.
    response.write(body.subarray(0, how.cutAfter), () => setTimeout(() => response.destroy(), 50));
  } else {
    one.sent = body.length;
    response.end(body);
  }
}

function contentOf(repos: readonly Repo[], etag: string): Uint8Array | undefined {
  const all = repos.flatMap(({ commits }) => Object.values(commits).flatMap((files) => Object.values(files)));
  return all.find((bytes) => bytes.length >= LARGE_BYTES && hashesOf(bytes).sha256 === etag);
}

function refuse(response: ServerResponse, status: number, headers: Readonly<Record<string, string>>): void {
  response.writeHead(status, { ...headers, 'Content-Type': 'application/json' }).end('{"error":"no"}');
}

function sendJson(response: ServerResponse, content: unknown, headers: Readonly<Record<string, string>> = {}): void {
  response.writeHead(200, { ...headers, 'Content-Type': 'application/json' }).end(JSON.stringify(content));
}

function listen(server: Server): Promise<void> {
  return new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
}

function addressOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function close(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(() => resolve()));
}
