import { BuildError } from './build-error.js';
import type { PackageName } from './options.js';

/** A wheel in a package index. */
export interface OfferedWheel {
  /** The file name, which holds version, Python and platform. */
  readonly filename: string;
  /** The URL of the file. */
  readonly url: string;
  /** Its SHA-256; undefined if the index gives none. */
  readonly sha256: string | undefined;
  /** Its size in bytes; undefined if the index gives none. */
  readonly bytes: number | undefined;
}

/** A wheel with a known checksum. */
export interface Wheel extends OfferedWheel {
  /** The SHA-256 that the file must have. */
  readonly sha256: string;
}

/** The checksums of tested wheels, by file name; for others the index's checksum is used. */
const PINNED: Readonly<Record<string, string>> = {
  'tensorflow_cpu-2.12.1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl':
    '7ffb595707a8fb376deaddc768784c7a0242b16cbc6e06393b1733b2ce19f855',
  'tensorflow_cpu-2.18.1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl':
    '8e0f27dbd92c6d380ae0ccfe73c7343f65c127b0aa98467c30c2e71eda7c76a4',
  'tensorflow_cpu-2.21.0-cp313-cp313-manylinux_2_27_x86_64.whl':
    '05af7c26d35f4de910b5598c7b507e3981831a7b0f47fed9a405d995d51d7793',
  'tensorflow-2.18.1-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl':
    '442d2a774811789a8ad948e7286cb950fe3d87d3754e8cc6449d53b03dbfdaa6',
  'tensorflow-2.21.0-cp313-cp313-manylinux_2_27_x86_64.whl':
    'e9d8da8dcab9650efb45f032ba70af2f016f907e6e0c6bda29dd101bba945406',
};

/** Returns the index's name of the library that a package links with; the build with CUDA has the plain name. */
export function projectOf(packageName: PackageName): string {
  return packageName === 'tfjs-node-gpu' ? 'tensorflow' : 'tensorflow-cpu';
}

/**
 * Parses the wheels in a project's page of an index.
 *
 * @param contentType decides the format: JSON (PEP 691) if it says so, otherwise HTML (PEP 503)
 * @param url of the page, to which links are relative
 * @throws BuildError if the page is not an index
 */
export function offeredWheels(body: string, contentType: string, url: string): OfferedWheel[] {
  return contentType.includes('json') ? fromJson(body, url) : fromHtml(body, url);
}

interface JsonFile {
  readonly filename: string;
  readonly url: string;
  readonly hashes?: { readonly sha256?: string };
  readonly size?: number;
}

function fromJson(body: string, url: string): OfferedWheel[] {
  try {
    const { files } = JSON.parse(body) as { files: readonly JsonFile[] };
    return files.map(({ filename, url: link, hashes, size }) => ({
      filename,
      url: new URL(link, url).href,
      sha256: hashes?.sha256,
      bytes: size,
    }));
  } catch (cause) {
    throw new BuildError('failed', `${url} is not a page of a package index: ${(cause as Error).message}`, cause);
  }
}

function fromHtml(body: string, url: string): OfferedWheel[] {
  return [...body.matchAll(/<a\s[^>]*href\s*=\s*["']([^"']+)["'][^>]*>\s*([^<]+?)\s*<\/a>/gi)].map(
    ([, href = '', filename = '']) => {
      const link = new URL(href.replaceAll('&amp;', '&'), url);
      const sha256 = /sha256=([0-9a-f]{64})/.exec(link.hash)?.[1];
      link.hash = '';
      return { filename, url: link.href, sha256, bytes: undefined };
    },
  );
}

/**
 * Returns the wheel of a version for Linux on x64: the pinned one, otherwise the one for the newest Python. All hold
 * the same library.
 *
 * @throws BuildError if there is none, or its checksum is unknown or differs from the pinned one.
 */
export function chooseWheel(
  offered: readonly OfferedWheel[],
  project: string,
  version: string,
  pinned: Readonly<Record<string, string>> = PINNED,
): Wheel {
  const prefix = `${project.replaceAll('-', '_')}-${version}-`;
  const fitting = offered.filter(
    ({ filename }) => filename.startsWith(prefix) && /manylinux.*_x86_64\.whl$/.test(filename),
  );
  const [newest] = fitting.toSorted((a, b) => pythonOf(b) - pythonOf(a));
  const wheel = fitting.find(({ filename }) => filename in pinned) ?? newest;
  if (wheel === undefined) {
    throw new BuildError('failed', `the package index has no wheel of ${project} ${version} for Linux on x64`);
  }
  const expected = pinned[wheel.filename] ?? wheel.sha256;
  if (expected === undefined) {
    throw new BuildError('failed', `the package index gives no sha256 of ${wheel.filename}, and none is pinned`);
  }
  if (wheel.sha256 !== undefined && wheel.sha256 !== expected) {
    throw new BuildError(
      'failed',
      `the package index offers a different ${wheel.filename}: ${mismatch(expected, wheel.sha256)}`,
    );
  }
  return { ...wheel, sha256: expected };
}

/** Formats both checksums for an error message. */
export function mismatch(expected: string, got: string): string {
  return `expected sha256 ${expected}, got ${got}`;
}

/** cp39 -> 39, cp312 -> 312 */
function pythonOf({ filename }: OfferedWheel): number {
  return Number(/-cp(\d+)-/.exec(filename)?.[1] ?? 0);
}
