import { existsSync } from 'node:fs';
import { mkdir, readdir, readlink, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/**
 * Gives a copy of the repository what is installed in the repository, as links. Packages of the repository itself are
 * those of the copy.
 */
export async function linkInstalled(repository: string, copy: string): Promise<void> {
  const packages = (await readdir(join(copy, 'packages'))).map((name) => join('packages', name));
  for (const folder of ['.', ...packages]) {
    const modules = join(repository, folder, 'node_modules');
    if (folder === '.' || existsSync(modules)) await linkAll(modules, join(copy, folder, 'node_modules'));
  }
}

async function linkAll(modules: string, copied: string): Promise<void> {
  for (const name of await readdir(modules)) {
    if (name === '.bin' || !/^[.@]/.test(name)) await link(modules, copied, name);
    if (!name.startsWith('@')) continue;
    for (const inside of await readdir(join(modules, name))) await link(modules, copied, join(name, inside));
  }
}

/** npm installs packages of the repository as relative links, which hold for the copy, too. */
async function link(modules: string, copied: string, name: string): Promise<void> {
  await mkdir(dirname(join(copied, name)), { recursive: true });
  await symlink(await readlink(join(modules, name)).catch(() => join(modules, name)), join(copied, name));
}
