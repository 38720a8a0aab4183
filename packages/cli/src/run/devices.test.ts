import { expect, it } from 'vitest';
import { driversIn, isSoftware } from './check-engine.js';
import { deviceNames } from './check-gpus.js';

const echo = (text: string, pattern: RegExp) =>
  [process.execPath, ['-e', `console.log(${JSON.stringify(text)})`], pattern] as const;

it('names of GPUs come from the programs that are installed, each name once', async () => {
  const names = await deviceNames([
    echo('GPU id = 0\n\tdeviceName         = Radeon 780M\n', /^\s*deviceName\s*=\s*(.+)$/gm),
    echo('Radeon 780M', /^(\S.*)$/gm),
    ['no-such-program', [], /.+/g],
  ]);
  expect(names).toEqual(['Radeon 780M']);
});

it('drivers are the files that a process has mapped into memory', () => {
  const line = (file: string): string => `7f0000000000-7f0000001000 r-xp 00000000 08:01 42      ${file}`;
  const maps = ['/usr/lib/chromium/libvk_swiftshader.so', '/usr/lib/libvulkan.so.1.3.239', '/usr/lib/libc.so.6', ''];
  expect(driversIn(maps.map(line).join('\n'))).toEqual(['libvk_swiftshader.so']);
  const several = ['/usr/lib/libvulkan_lvp.so', '/usr/lib/libGLX_nvidia.so.550.1', '/usr/lib/libGLX_nvidia.so.550.1'];
  expect(driversIn(several.map(line).join('\n'))).toEqual(['libGLX_nvidia.so.550.1', 'libvulkan_lvp.so']);
});

it.each([
  [[], false],
  [['libvk_swiftshader.so'], true],
  [['libvulkan_lvp.so', 'libvk_swiftshader.so'], true],
  [['libvulkan_lvp.so', 'libGLX_nvidia.so.550.1'], false],
])('a device with the drivers %j is a software device: %s', (drivers, software) => {
  expect(isSoftware(drivers)).toBe(software);
});
