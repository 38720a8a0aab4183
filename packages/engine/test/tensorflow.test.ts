import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { eager } from '@peftjs/engine';

describe("the reason why the backend 'tensorflow' does not start", () => {
  let folder = '';
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'peftjs-'));
    vi.stubEnv('PEFTJS_TFJS_NODE', folder);
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    await rm(folder, { recursive: true });
  });

  async function install(name: string, code: string): Promise<void> {
    const target = join(folder, 'node_modules', '@tensorflow', name);
    await mkdir(target, { recursive: true });
    await writeFile(join(target, 'index.js'), code);
  }

  const starting = () => eager({ backend: 'tensorflow' });

  it('is that the folder has neither package', async () => {
    await expect(starting()).rejects.toThrow(`not installed in ${folder} (PEFTJS_TFJS_NODE)`);
  });

  it('is that install scripts did not run', async () => {
    const path = join(folder, 'tfjs_binding.node');
    const words = `The Node.js native addon module (tfjs_binding.node) can not be found at path: ${path}. \nPlease run command ..`;
    await install('tfjs-node', `throw new Error(${JSON.stringify(words)});`);
    await expect(starting()).rejects.toThrow(
      /: @tensorflow\/tfjs-node is installed without its native addon; to install it: npm install .*build\.ts --into DIR \(for a GPU: --package tfjs-node-gpu\)$/,
    );
  });

  it('is the error of the package for GPUs, even if the other one is installed', async () => {
    await install('tfjs-node', 'throw new Error("not asked");');
    await install('tfjs-node-gpu', 'throw new Error("libcudart.so.12: cannot open\\nand more");');
    await expect(starting()).rejects.toThrow(
      /: @tensorflow\/tfjs-node-gpu: libcudart\.so\.12: cannot open; to install/,
    );
  });

  it("does not keep 'auto' from trying the next backend", async () => {
    await install('tfjs-node', 'throw new Error("broken");');
    expect((await eager()).info.backend).toBe('wasm');
  });
});
