import { existsSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { ADAPTER_CONFIG, ADAPTER_WEIGHTS, CheckpointError, sizeOf, type Site } from '@peftjs/core';
import { fromPretrained } from '@peftjs/models';
import { openSafetensors, type SafetensorsFile } from '@peftjs/safetensors';
import { findPackage, packageFolder } from '../registry/packages.js';
import { textTable } from '../report/text-table.js';

/** `peft-bench inspect`: what an adapter, a safetensors file or a model holds. */
export function addInspectCommand(program: Command): void {
  program
    .command('inspect')
    .description('show what an adapter folder, a safetensors file or a model holds')
    .argument('<path>', 'a folder, a file, or an npm package with a model')
    .action(inspect);
}

async function inspect(path: string): Promise<void> {
  if (existsSync(join(path, ADAPTER_CONFIG))) return inspectAdapter(path);
  if (path.endsWith('.safetensors')) return inspectTensors(path);
  if (existsSync(path) ? statSync(path).isDirectory() : findPackage(path) !== undefined) return inspectModel(path);
  throw new CheckpointError(`${path}: expected an adapter folder, a .safetensors file or a model`, path);
}

async function inspectAdapter(folder: string): Promise<void> {
  const config = await adapterConfig(join(folder, ADAPTER_CONFIG));
  await withFile(join(folder, ADAPTER_WEIGHTS), (file) => {
    const modules = modulesOf(file);
    const parameters = (names: readonly string[]): number =>
      names.reduce((sum, name) => sum + sizeOf(file.spec(name).shape), 0);
    say(
      `${String(config.peft_type)} adapter for ${String(config.base_model_name_or_path)}, ${number(parameters(file.names))} scalars\n\n`,
    );
    const rows = [...modules].map(([path, names]) => [path, rankOf(file, names), number(parameters(names))]);
    say(textTable(['module', 'rank', 'scalars'], rows, [1, 2]));
  });
}

async function inspectTensors(path: string): Promise<void> {
  await withFile(path, (file) => {
    const rows = file.names.map((name) => {
      const { dtype, shape } = file.spec(name);
      return [name, dtype, `[${shape.join(', ')}]`];
    });
    say(textTable(['tensor', 'type', 'shape'], rows, []));
  });
}

async function inspectModel(path: string): Promise<void> {
  const model = await fromPretrained(path, { resolvePackage: packageFolder });
  const parameters = Object.values(model.weights).reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  say(
    `${model.name}: ${number(parameters)} parameters, up to ${model.maxTokens} tokens; fingerprint ${model.fingerprint.slice(0, 12)}\n\n`,
  );
  const size = ({ inFeatures, outFeatures }: Site): string => `${inFeatures} -> ${outFeatures}`;
  const rows = model.sites.map((site) => [site.path, site.kind, site.role, size(site)]);
  say(textTable(['module', 'kind', 'role', 'size'], rows, []));
}

/** The fields of an adapter_config.json. @throws CheckpointError when it is missing or no JSON. */
export async function adapterConfig(path: string): Promise<Record<string, unknown>> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Record<string, unknown>;
  } catch (cause) {
    throw new CheckpointError(`${path}: ${cause instanceof Error ? cause.message : String(cause)}`, path, cause);
  }
}

async function withFile(path: string, use: (file: SafetensorsFile) => void): Promise<void> {
  const file = await openSafetensors(path);
  try {
    use(file);
  } finally {
    await file.close();
  }
}

/** Tensor names by module path: the part before what the adapter adds. */
function modulesOf(file: SafetensorsFile): Map<string, string[]> {
  const modules = new Map<string, string[]>();
  for (const name of file.names) {
    const path = name.replace(/^base_model\.model\./, '').replace(/\.(lora_\w+|gate|weight|bias)(\.\w+)?$/, '');
    modules.set(path, [...(modules.get(path) ?? []), name]);
  }
  return new Map([...modules].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The rank of a module with low-rank factors; a dash for one trained whole. */
function rankOf(file: SafetensorsFile, names: readonly string[]): string {
  const down = names.find((name) => name.includes('.lora_A'));
  return down === undefined ? '-' : String(file.spec(down).shape[0]);
}

function number(value: number): string {
  return value.toLocaleString('en-US');
}

function say(text: string): void {
  process.stdout.write(text);
}
