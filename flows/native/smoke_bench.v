// Smoke bench: loads a program into memory, rings the doorbell, waits for the interrupt and compares the results.
// Plain Verilog-2005; run it where smoke_memory.hex, smoke_expected.hex and smoke_writes.hex are. Prints PASS or FAIL.

`timescale 1ns / 1ps

// Everything but the clock, for simulators that give one from outside.
module heddle_bench (
  input wire clk
);
  localparam BYTES = @BYTES@;          // of a bus beat
  localparam BEAT_SHIFT = @BEAT_SHIFT@;
  localparam BEATS = @BEATS@;          // of memory
  localparam FIRST = @FIRST@;          // beats that hold the results
  localparam LAST = @LAST@;
  localparam WRITES = @WRITES@;        // register writes, the doorbell last
  localparam TIMEOUT = @TIMEOUT@;      // cycles
  localparam STATUS = 32'h@STATUS@;
  localparam STATUS_DONE = 32'd2;      // stopped by HALT: neither busy nor in error

  reg [8*BYTES-1:0] memory [0:BEATS-1];
  reg [8*BYTES-1:0] expected [0:BEATS-1];
  reg [63:0] writes [0:WRITES-1];      // {register offset, value}
  initial begin
    $readmemh("smoke_memory.hex", memory);
    $readmemh("smoke_expected.hex", expected);
    $readmemh("smoke_writes.hex", writes);
  end

@WIRES@
  reg [31:0] cycle = 0;
  reg reset = 1;
  assign rst = reset;
  always @(posedge clk) begin
    cycle <= cycle + 1;
    reset <= cycle < 4;
  end

  // A sequence without a pattern, in which the memory holds back now and then.
  reg [15:0] noise = 16'hACE1;
  always @(posedge clk)
    noise <= {noise[14:0], noise[15] ^ noise[13] ^ noise[12] ^ noise[10]};

  // Memory, read side: one burst at a time; valid, once given, stays until the beat is taken.
  reg reading = 0;
  reg offered = 0;
  reg read_id = 0;
  reg [31:0] read_beat = 0;
  reg [7:0] read_left = 0;
  assign m_axi_arready = !reading;
  assign m_axi_rvalid = offered;
  assign m_axi_rid = read_id;
  assign m_axi_rdata = memory[read_beat];
  assign m_axi_rresp = read_beat < BEATS ? 2'b00 : 2'b11;
  assign m_axi_rlast = read_left == 0;
  always @(posedge clk)
    if (reset) begin
      reading <= 0;
      offered <= 0;
    end else if (!reading) begin
      if (m_axi_arvalid) begin
        reading <= 1;
        read_id <= m_axi_arid;
        read_beat <= m_axi_araddr >> BEAT_SHIFT;
        read_left <= m_axi_arlen;
      end
    end else if (!offered) begin
      offered <= noise[0];
    end else if (m_axi_rready) begin
      offered <= noise[0] && read_left != 0;
      read_beat <= read_beat + 1;
      read_left <= read_left - 8'd1;
      reading <= read_left != 0;
    end

  // Memory, write side: one burst at a time.
  reg writing = 0;
  reg answering = 0;
  reg write_id = 0;
  reg [31:0] write_beat = 0;
  reg [8*BYTES-1:0] merged;
  integer lane;
  assign m_axi_awready = !writing && !answering;
  assign m_axi_wready = writing && noise[1];
  assign m_axi_bvalid = answering;
  assign m_axi_bid = write_id;
  assign m_axi_bresp = 2'b00;
  always @* begin
    merged = memory[write_beat];
    for (lane = 0; lane < BYTES; lane = lane + 1)
      if (m_axi_wstrb[lane])
        merged[8*lane +: 8] = m_axi_wdata[8*lane +: 8];
  end
  always @(posedge clk)
    if (reset) begin
      writing <= 0;
      answering <= 0;
    end else if (m_axi_awvalid && m_axi_awready) begin
      writing <= 1;
      write_id <= m_axi_awid;
      write_beat <= m_axi_awaddr >> BEAT_SHIFT;
    end else if (m_axi_wvalid && m_axi_wready) begin
      memory[write_beat] <= merged;
      write_beat <= write_beat + 1;
      writing <= !m_axi_wlast;
      answering <= m_axi_wlast;
    end else if (answering && m_axi_bready) begin
      answering <= 0;
    end

  // Host: writes the registers one after the other, waits for the interrupt, reads STATUS, compares.
  localparam WRITE = 2'd0, WAIT = 2'd1, READ = 2'd2, CHECK = 2'd3;
  reg [1:0] state = WRITE;
  reg [31:0] index = 0;
  reg aw_valid = 0, w_valid = 0, started = 0, ar_valid = 0;
  reg [31:0] status = 0;
  integer beat;
  integer wrong;
  wire [63:0] current = writes[index];
  assign s_axil_awaddr = current[32 +: @LITE_ADDRESS@];
  assign s_axil_awprot = 3'd0;
  assign s_axil_awvalid = aw_valid;
  assign s_axil_wdata = current[31:0];
  assign s_axil_wstrb = 4'hF;
  assign s_axil_wvalid = w_valid;
  assign s_axil_bready = 1'b1;
  assign s_axil_araddr = STATUS[0 +: @LITE_ADDRESS@];
  assign s_axil_arprot = 3'd0;
  assign s_axil_arvalid = ar_valid;
  assign s_axil_rready = 1'b1;
  always @(posedge clk)
    if (!reset) begin
      if (s_axil_awready) aw_valid <= 0;
      if (s_axil_wready) w_valid <= 0;
      if (s_axil_arready) ar_valid <= 0;
      case (state)
        WRITE: begin
          if (!started) begin
            started <= 1;
            aw_valid <= 1;
            w_valid <= 1;
          end else if (s_axil_bvalid) begin
            if (s_axil_bresp != 2'b00) begin
              $display("FAIL: write of register %h answered %b", current[63:32], s_axil_bresp);
              $finish;
            end
            started <= 0;
            index <= index + 1;
            if (index == WRITES - 1)
              state <= WAIT;
          end
        end
        WAIT:
          if (irq) begin
            ar_valid <= 1;
            state <= READ;
          end
        READ:
          if (s_axil_rvalid) begin
            status <= s_axil_rdata;
            state <= CHECK;
          end
        CHECK: begin
          wrong = 0;
          for (beat = FIRST; beat <= LAST; beat = beat + 1)
            if (memory[beat] !== expected[beat]) begin
              if (wrong == 0)
                $display("FAIL: beat %0d is %h, not %h", beat, memory[beat], expected[beat]);
              wrong = wrong + 1;
            end
          if ((status & 32'd7) != STATUS_DONE)
            $display("FAIL: STATUS is %h", status);
          else if (wrong == 0)
            $display("PASS: %0d beats of results right after %0d cycles", LAST - FIRST + 1, cycle);
          $finish;
        end
      endcase
      if (cycle == TIMEOUT) begin
        $display("FAIL: no interrupt in %0d cycles", TIMEOUT);
        $finish;
      end
    end

  @TOP@ dut (
@CONNECTIONS@
  );
endmodule

// The bench with a clock of its own.
module heddle_smoke;
  reg clk = 0;
  always #5 clk = !clk;
  heddle_bench bench (.clk(clk));
endmodule
