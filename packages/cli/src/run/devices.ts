import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { promisify } from 'node:util';

/** A program that names the GPUs of a machine with its arguments, and the part of its output that is a name. */
type DeviceSource = readonly [command: string, args: readonly string[], name: RegExp];

/** Tried on every platform: a program that is not installed is skipped. */
const SOURCES: readonly DeviceSource[] = [
  ['nvidia-smi', ['--query-gpu=name,memory.total,driver_version', '--format=csv,noheader'], /^(\S.*, .*)$/gm],
  ['vulkaninfo', ['--summary'], /^\s*deviceName\s*=\s*(.+)$/gm],
  ['system_profiler', ['SPDisplaysDataType'], /^\s*Chipset Model:\s*(.+)$/gm],
  ['powershell', ['-NoProfile', '-Command', '(Get-CimInstance Win32_VideoController).Name'], /^(\S.*)$/gm],
];

const TIMEOUT_MS = 10_000;

/** The names of the machine's GPUs, as far as an installed program knows them. */
export async function deviceNames(sources = SOURCES): Promise<string[]> {
  return [...new Set((await Promise.all(sources.map(namesFrom))).flat())];
}

async function namesFrom([command, args, pattern]: DeviceSource): Promise<string[]> {
  try {
    const { stdout } = await promisify(execFile)(command, [...args], { timeout: TIMEOUT_MS });
    return [...stdout.matchAll(pattern)].map(([, name = '']) => name.trim());
  } catch {
    return [];
  }
}

/** Files of Vulkan drivers, and of NVIDIA's CUDA driver. */
const DRIVER = /^(?:libvk_swiftshader|libvulkan_\w+|libGLX_nvidia|libcuda|amdvlk\d*|libamdvlk\d*)\.so/;

/** The graphics drivers that this process has loaded, by the names of their files; empty on other systems than Linux. */
export function loadedDrivers(): string[] {
  try {
    return driversIn(readFileSync('/proc/self/maps', 'utf8'));
  } catch {
    return [];
  }
}

/** The drivers among the files that a process has mapped into memory, in the format of /proc/self/maps. */
export function driversIn(maps: string): string[] {
  const files = maps.split('\n').map((line) => basename(/\s(\/.*)$/.exec(line)?.[1] ?? ''));
  return [...new Set(files.filter((file) => DRIVER.test(file)))].sort();
}

/** Drivers that compute on the processor. */
const SOFTWARE = /^(?:libvk_swiftshader|libvulkan_lvp)\.so/;

/** Whether drivers were loaded, and all of them compute on the processor. */
export function isSoftware(drivers: readonly string[]): boolean {
  return drivers.length > 0 && drivers.every((driver) => SOFTWARE.test(driver));
}
