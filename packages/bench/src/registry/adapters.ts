import { ADAPTER_CONFIG, ADAPTER_WEIGHTS, CheckpointError, readAdapterConfig } from '@peftjs/core';
import type { Folder } from '@peftjs/models';
import { bytesSource, openSafetensors, type SafetensorsFile } from '@peftjs/safetensors';

/** Whether a folder holds an adapter. */
export function isAdapter({ path, storage }: Folder): Promise<boolean> {
  return storage.exists(`${path}/${ADAPTER_CONFIG}`);
}

/** The fields of an adapter_config.json. @throws CheckpointError when it is missing or broken. */
export function adapterConfig({ path, storage }: Folder): Promise<Readonly<Record<string, unknown>>> {
  return readAdapterConfig(path, storage);
}

/** What `use` makes of an adapter's tensors. @throws CheckpointError or SafetensorsError when they are missing or broken. */
export async function withTensors<T>({ path, storage }: Folder, use: (file: SafetensorsFile) => T): Promise<T> {
  const name = `${path}/${ADAPTER_WEIGHTS}`;
  const source = (await storage.open?.(name)) ?? bytesSource(await storage.read(name));
  const file = await openSafetensors(source).catch((cause: unknown) => {
    throw inFile(name, cause);
  });
  try {
    return use(file);
  } finally {
    await file.close();
  }
}

function inFile(file: string, cause: unknown): CheckpointError {
  return new CheckpointError(`${file}: ${cause instanceof Error ? cause.message : String(cause)}`, file, cause);
}
