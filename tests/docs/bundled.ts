import { cp, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { build, defaultClientConditions } from 'vite';
import { root } from '../workspace/repository.js';

/**
 * Bundles a page with Vite: `index.html` starts `page.js`. The folder `runtime` has ONNX Runtime's files.
 * @param folder an empty folder, without symbolic links in its path
 * @param files the program's files, by name
 * @returns the folder to serve, inside of it
 */
export async function bundled(folder: string, files: Readonly<Record<string, string>>): Promise<string> {
  const site = join(folder, 'site');
  const page = '<link rel="icon" href="data:," /><body><script type="module" src="/page.js"></script>';
  for (const [name, text] of Object.entries({ 'index.html': page, ...files }))
    await writeFile(join(folder, name), text);
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
  await build({
    root: folder,
    configFile: false,
    logLevel: 'silent',
    resolve: { conditions: ['@peftjs/source', ...defaultClientConditions] },
    worker: { format: 'es' },
    build: { target: 'es2022', outDir: site },
  });
  const runtime = join(root, 'node_modules/onnxruntime-web/dist');
  for (const file of await readdir(runtime)) {
    if (/^ort-wasm-simd-threaded(?:\.asyncify)?\.(?:wasm|mjs)$/.test(file))
      await cp(join(runtime, file), join(site, 'runtime', file));
  }
  return site;
}
