import { spawn } from 'node:child_process';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { linkInstalled } from '../../tools/release/linked.js';
import { temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { root } from '../workspace/repository.js';

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

const timeout = 300_000; // a build and its checks, on a busy machine

describe('npm run release:dry, on the smallest package of a clone with one changeset', { timeout }, () => {
  const folder = temporaryFolder();
  let clone: string;
  let temporary: string;

  beforeAll(async () => {
    [clone, temporary] = [join(folder, 'clone'), join(folder, 'tmp')];
    await mkdir(temporary);
    await start('git', ['clone', '--quiet', '--shared', root, clone], folder);
    await linkInstalled(root, clone);
    for (const name of await readdir(join(clone, '.changeset'))) {
      if (name.endsWith('.md')) await rm(join(clone, '.changeset', name));
    }
    await commit('.changeset/one.md', () => "---\n'@peftjs/safetensors': minor\n---\n\nReads files.\n");
  });
  beforeEach(async () => {
    await start('git', ['tag', '--force', 'sound'], clone);
    return () => start('git', ['reset', '--quiet', '--hard', 'sound'], clone);
  });

  /** Commits a change of one file, and what else has changed. */
  async function commit(path: string, change: (text: string) => string): Promise<void> {
    const file = join(clone, path);
    await writeFile(file, change(await readFile(file, 'utf8').catch(() => '')));
    await start('git', ['add', '--all'], clone);
    const author = ['-c', 'user.name=A', '-c', 'user.email=a@example.com'];
    await start('git', [...author, 'commit', '--quiet', '--no-verify', '-m', path], clone);
  }

  /** Runs it, and sees that it has changed nothing and left nothing. */
  async function dry(args: readonly string[] = [], onOutput?: Watcher): Promise<Ended> {
    const flags = ['--conditions=@peftjs/source', `--import=${import.meta.resolve('tsx')}`];
    const program = [...flags, join(root, 'tools/release/dry.ts'), '--package', '@peftjs/safetensors', ...args];
    const environment = { TMPDIR: temporary, npm_config_registry: 'http://127.0.0.1:9', npm_config_fetch_retries: '0' };
    const ended = await start(process.execPath, program, clone, environment, onOutput);
    expect((await start('git', ['status', '--porcelain'], clone)).stdout).toBe('');
    expect((await readdir(temporary)).filter((name) => name.startsWith('peftjs-'))).toEqual([]);
    return ended;
  }

  it('raises the version, builds, checks and packs, without the network', async () => {
    const { code, stdout, stderr } = await dry(['--out', join(folder, 'out')]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const [, before = '', after = '', files] =
      /^@peftjs\/safetensors +(\S+) -> (\S+) +[\d.]+\sKiB +(\d+)$/m.exec(stdout) ?? [];
    expect(after).not.toBe(before);
    expect(stdout).toMatch(/\n\nNothing was uploaded\. Next: the workflow 'release' proposes .+\n$/);
    const tarball = join(folder, 'out', `peftjs-safetensors-${after}.tgz`);
    const listed = (await start('tar', ['-tzf', tarball], folder)).stdout.trim().split('\n');
    expect(listed).toHaveLength(Number(files));
    expect(listed).toEqual(expect.arrayContaining(['package/package.json', 'package/dist/index.js']));
  });

  const manifest = 'packages/safetensors/package.json';
  const versions = 'versions, changelogs, lock file';
  it.each([
    [versions, '.changeset/two.md', () => "---\n'@peftjs/none': minor\n---\n\nNone.\n"],
    [versions, 'package.json', (text: string) => text.replace(/(changeset version) && [^"]+/, '$1')],
    ['build', 'packages/safetensors/src/index.ts', (text: string) => `${text}export { none } from './none.js';\n`],
    ['publint, attw, size-limit', manifest, (text: string) => text.replace(/"limit": ".+"/, '"limit": "1 B"')],
  ])('stops where %s fails because of %s', async (step, path, change) => {
    await commit(path, change);
    // The first test has raised versions before these steps.
    if (step !== versions) {
      await commit('package.json', (text) => text.replace(/("version-packages": )".+"/, '$1"true"'));
    }
    const { code, stdout, stderr } = await dry();
    expect(code).toBe(1);
    expect(stderr.trimEnd().split('\n').at(-1)).toMatch(`release:dry: '${step}' failed: `);
    expect(stdout).not.toContain('->');
  });

  it('says that the registry is out of reach where a dependency is new', async () => {
    await commit(manifest, (text) =>
      text.replace('"scripts"', '"dependencies": { "@peftjs/none": "1.0.0" },\n  "scripts"'),
    );
    const { code, stderr } = await dry();
    expect(code).toBe(1);
    expect(stderr).toMatch(/failed: npm's registry is out of reach; .+\n$/);
  });

  it('leaves nothing behind when it is interrupted', async () => {
    const { code, stderr } = await dry([], (child, line) => line.includes('copy of') && child.kill('SIGTERM'));
    expect({ code, stderr }).toEqual({ code: 1, stderr: 'release:dry: interrupted; nothing is left behind\n' });
  });
});

type Watcher = (child: ReturnType<typeof spawn>, output: string) => unknown;

/** Starts a command and waits for its end. */
function start(
  command: string,
  args: readonly string[],
  cwd: string,
  environment: Readonly<Record<string, string>> = {},
  onOutput?: Watcher,
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env: { ...process.env, NO_COLOR: '1', ...environment } });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk.toString();
      onOutput?.(child, chunk.toString());
    });
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}
