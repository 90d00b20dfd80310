// The smallest archive: plain files of `{ name: text }`, in POSIX ustar.

/** The archive's bytes. */
export function tar(files) {
  const blocks = Object.entries(files).flatMap(([name, text]) => {
    const bytes = Buffer.from(text);
    const header = Buffer.alloc(512);
    const octal = (value, at, length) => header.write(value.toString(8).padStart(length - 1, "0"), at);
    header.write(name, 0);
    octal(0o644, 100, 8);
    octal(1000, 108, 8);
    octal(1000, 116, 8);
    octal(bytes.length, 124, 12);
    octal(0, 136, 12);
    header.write("        0", 148);
    header.write("ustar\u000000", 257);
    octal(header.reduce((sum, byte) => sum + byte, 0), 148, 7);
    return [header, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}
