import { describe, expect, it } from 'vitest';
import { BuildError } from './build-error.js';
import { chooseWheel, offeredWheels, type OfferedWheel } from './wheels.js';

const PAGE = 'https://index/simple/tensorflow-cpu/';
const [OLD, NEW, OTHER] = ['a', 'b', 'c'].map((digit) => digit.repeat(64)) as [string, string, string];

const nameOf = (python: string, tail = 'manylinux_2_17_x86_64.manylinux2014_x86_64') =>
  `tensorflow_cpu-2.18.1-${python}-${python}-${tail}.whl`;

const wheel = (filename: string, sha256?: string): OfferedWheel => ({
  filename,
  url: `https://files/${filename}`,
  sha256,
  bytes: undefined,
});

describe('offeredWheels', () => {
  it('reads a page in JSON', () => {
    const files = [
      { filename: 'a.whl', url: 'https://files/a.whl', hashes: { sha256: OLD }, size: 7 },
      { filename: 'b.whl', url: '../../files/b.whl', hashes: {} },
    ];
    expect(offeredWheels(JSON.stringify({ files }), 'application/vnd.pypi.simple.v1+json', PAGE)).toEqual([
      { filename: 'a.whl', url: 'https://files/a.whl', sha256: OLD, bytes: 7 },
      { filename: 'b.whl', url: 'https://index/files/b.whl', sha256: undefined, bytes: undefined },
    ]);
  });

  it('reads a page in HTML', () => {
    const page = `<html><body><h1>Links</h1>
      <a href="../../files/a.whl?x=1&amp;y=2#sha256=${OLD}" data-requires-python="&gt;=3.9">a.whl</a><br/>
      <a rel="internal" href='https://files/b.whl'> b.whl </a></body></html>`;
    expect(offeredWheels(page, 'text/html', PAGE)).toEqual([
      { filename: 'a.whl', url: 'https://index/files/a.whl?x=1&y=2', sha256: OLD, bytes: undefined },
      { filename: 'b.whl', url: 'https://files/b.whl', sha256: undefined, bytes: undefined },
    ]);
  });

  it('rejects a page that is not an index', () => {
    expect(() => offeredWheels('{"message":"hello"}', 'application/json', PAGE)).toThrow(BuildError);
    expect(offeredWheels('<p>Sign in</p>', 'text/html', PAGE)).toEqual([]);
  });
});

describe('chooseWheel', () => {
  const pinned = { [nameOf('cp311')]: OLD };

  it('returns the pinned wheel, otherwise the one for the newest Python', () => {
    const offered = [wheel(nameOf('cp39'), OTHER), wheel(nameOf('cp311'), OLD), wheel(nameOf('cp312'), NEW)];
    expect(chooseWheel(offered, 'tensorflow-cpu', '2.18.1', pinned)).toMatchObject({ filename: nameOf('cp311') });
    expect(chooseWheel(offered, 'tensorflow-cpu', '2.18.1', {})).toMatchObject({
      filename: nameOf('cp312'),
      sha256: NEW,
    });
  });

  it('ignores other versions, projects and platforms', () => {
    const offered = [
      wheel(nameOf('cp312').replace('2.18.1', '2.18.10'), NEW),
      wheel(nameOf('cp312').replace('_cpu', ''), NEW),
      wheel(nameOf('cp312', 'macosx_12_0_arm64'), NEW),
      wheel(nameOf('cp312', 'manylinux_2_17_aarch64'), NEW),
    ];
    expect(() => chooseWheel(offered, 'tensorflow-cpu', '2.18.1', {})).toThrow(
      'the package index has no wheel of tensorflow-cpu 2.18.1 for Linux on x64',
    );
  });

  it('compares the pinned checksum with the one of the index, if there is one', () => {
    const choose = (sha256?: string) =>
      chooseWheel([wheel(nameOf('cp311'), sha256)], 'tensorflow-cpu', '2.18.1', pinned);
    expect(choose()).toMatchObject({ sha256: OLD });
    expect(() => choose(NEW)).toThrow(`a different ${nameOf('cp311')}: expected sha256 ${OLD}, got ${NEW}`);
  });

  it('rejects a wheel without a known checksum', () => {
    expect(() => chooseWheel([wheel(nameOf('cp312'))], 'tensorflow-cpu', '2.18.1', {})).toThrow(/gives no sha256/);
  });
});
